package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func newLs(a *app) *cobra.Command {
	var long, all, recursive, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls SANDBOX:PATH",
		Short: "List a directory of a running sandbox",
		Long: `List a directory of a running sandbox, or all that is below it. Names that begin
with a dot are left out unless -a says otherwise. (bandsox ps lists sandboxes.)`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("give one SANDBOX:PATH (bandsox ps lists sandboxes)")
			}
			return nil
		},
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := bandsox.WalkOptions{Depth: 1, SkipHidden: !all}
			if recursive {
				o.Depth = 0
			}
			return a.walk(cmd, args[0], o, asJSON, func(out *lister, st bandsox.Stat) {
				if long {
					out.long(st)
				} else {
					out.line(st.Path)
				}
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&long, "long", "l", false, "mode, owner, size and time too")
	f.BoolVarP(&all, "all", "a", false, "names that begin with a dot too")
	f.BoolVarP(&recursive, "recursive", "R", false, "all that is below, by its path")
	f.BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

func newFind(a *app) *cobra.Command {
	var names, exclude []string
	var kind string
	var depth int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "find SANDBOX:PATH",
		Short: "Find files of a running sandbox",
		Long: `Find files of a running sandbox: all that is below a path, or what has a name, a
type, a depth. A pattern with a slash is matched against the path below PATH; **
is any number of directories.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := bandsox.WalkOptions{Include: names, Exclude: exclude, Depth: depth}
			if kind != "" {
				var ok bool
				if o.Type, ok = fileTypes[kind]; !ok {
					return usageError("--type %s: must be f, d, l, b, c, p or s", kind)
				}
			}
			if depth < 0 {
				return usageError("--depth %d: must not be negative", depth)
			}
			return a.walk(cmd, args[0], o, asJSON, func(out *lister, st bandsox.Stat) { out.whole(st.Path) })
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&names, "name", nil, "only what matches this glob pattern; repeatable")
	f.StringArrayVar(&exclude, "exclude", nil, "neither what matches this nor what is in it; repeatable")
	f.StringVar(&kind, "type", "", "only files (f), directories (d), symlinks (l), b, c, p or s")
	f.IntVar(&depth, "depth", 0, "so many levels; 1: only what is in PATH itself (default all)")
	f.BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

var fileTypes = map[string]string{
	"f": "file", "d": "dir", "l": "symlink", "b": "block", "c": "char", "p": "fifo", "s": "socket",
}

// walk lists what o finds as it comes. What can't be read is told when it is
// come to, and is the error in the end.
func (a *app) walk(cmd *cobra.Command, arg string, o bandsox.WalkOptions, asJSON bool, show func(*lister, bandsox.Stat)) error {
	ref, root := guestPath(arg)
	return a.withSandbox(cmd.Context(), ref, func(sb *client.Sandbox) error {
		out := newLister(root)
		var first error
		n := 0
		for st, err := range sb.Walk(cmd.Context(), root, o) {
			if err != nil {
				if first != nil {
					report(os.Stderr, first)
				}
				first = err
				continue
			}
			if n++; n == 1 && st.Type == "dir" && cmd.Name() == "ls" {
				out.root = strings.TrimSuffix(st.Path, "/") + "/"
				continue // the directory itself
			}
			if asJSON {
				out.json(st)
			} else {
				show(out, st)
			}
		}
		if err := out.Flush(); first == nil {
			first = err
		}
		return first
	})
}

// guestPath splits SANDBOX:PATH; without a path it is the root.
func guestPath(arg string) (ref, path string) {
	ref, path, _ = strings.Cut(arg, ":")
	if path == "" {
		path = "/"
	}
	return ref, path
}

// lister prints names: as they are to a program, harmless to a terminal.
type lister struct {
	*bufio.Writer
	root string // what line leaves out
	tty  bool
}

func newLister(root string) *lister {
	return &lister{Writer: bufio.NewWriter(os.Stdout), root: root, tty: term.IsTerminal(int(os.Stdout.Fd()))}
}

func (l *lister) whole(s string) {
	if l.tty {
		s = printable(s)
	}
	_, _ = l.WriteString(s + "\n") // Flush tells
}

func (l *lister) line(path string) { l.whole(strings.TrimPrefix(path, l.root)) }

func (l *lister) long(st bandsox.Stat) {
	name := strings.TrimPrefix(st.Path, l.root)
	if st.Target != "" {
		name += " -> " + st.Target
	}
	l.whole(fmt.Sprintf("%s %5d %5d %10d %s %s", modeText(st), st.UID, st.GID, st.Size, st.Mtime.Format("2006-01-02 15:04:05"), name))
}

// json prints an object a line, at once: others wait for it.
func (l *lister) json(v any) {
	enc := json.NewEncoder(l)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // what fails is the writing, which Flush tells
}

// modeText is a file's type and mode as ls has it.
func modeText(st bandsox.Stat) string {
	kind := byte('-')
	for letter, name := range fileTypes {
		if name == st.Type && letter != "f" {
			kind = letter[0]
		}
	}
	b := []byte{kind}
	for i, c := range "rwxrwxrwx" {
		if st.Mode&(0o400>>i) == 0 {
			c = '-'
		}
		b = append(b, byte(c))
	}
	for i, bit := range []uint32{0o4000, 0o2000, 0o1000} {
		if st.Mode&bit == 0 {
			continue
		}
		at, set := 3*(i+1), "sst"[i]
		if b[at] == '-' {
			set -= 'a' - 'A'
		}
		b[at] = set
	}
	return string(b)
}
