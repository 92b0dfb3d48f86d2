package main

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// copier is one cp.
type copier struct {
	ctx      context.Context
	sb       *client.Sandbox
	archive  bool
	follow   bool
	progress func(done, total int64)
}

func newCopy(a *app) *cobra.Command {
	var archive, follow, force bool
	cmd := &cobra.Command{
		Use:   "cp [OPTIONS] SANDBOX:PATH LOCAL | LOCAL SANDBOX:PATH",
		Short: "Copy files and directories into or out of a running sandbox",
		Long: `Copy files and directories into or out of a running sandbox, by the rules of
docker cp: a directory is copied into a target that is a directory, or becomes
the target if that doesn't exist; SOURCE/. is what is in it alone. A path that
ends in / is a directory. Modes, times, links and holes are kept; a file in the
way is replaced at once, a directory is kept and added to.

LOCAL may be -: a tar archive on standard output, of a directory, or the bytes
of a file; from standard input a tar archive into a directory that exists, or
else the bytes of a file. What is in an archive goes below that directory: a leading /
is taken off names, as tar does, and symbolic links are followed as if the
directory were the root.

Nothing that a sandbox sends is written outside of the target. Devices, fifos
and setuid bits stay behind.`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			from, fromPath, fromGuest := cutGuest(args[0])
			to, toPath, toGuest := cutGuest(args[1])
			if fromGuest == toGuest {
				return usageError("one of the two must be SANDBOX:PATH, the other a local path (write ./a:b for a local file with a colon)")
			}
			ref := to
			if fromGuest {
				ref = from
			}
			return a.withSandbox(cmd.Context(), ref, func(sb *client.Sandbox) error {
				c := &copier{ctx: cmd.Context(), sb: sb, archive: archive, follow: follow}
				if !a.quiet && (force || term.IsTerminal(int(os.Stderr.Fd()))) {
					p := newProgress(os.Stderr)
					defer p.finish()
					c.progress = func(done, total int64) { p.update("copying", done, total) }
				}
				if fromGuest {
					return c.out(fromPath, args[1])
				}
				return c.in(args[0], toPath)
			})
		},
	}
	cmd.Flags().BoolVarP(&archive, "archive", "a", false, "keep numeric owners")
	cmd.Flags().BoolVarP(&follow, "follow-link", "L", false, "copy what SOURCE leads to, if it is a symlink")
	cmd.Flags().BoolP("recursive", "r", false, "as directories are copied whole anyway, does nothing")
	_ = cmd.Flags().MarkHidden("recursive")
	cmd.Flags().BoolVar(&force, "progress", false, "show progress though standard error is not a terminal")
	return cmd
}

// cutGuest splits SANDBOX:PATH. What begins with . or / is local.
func cutGuest(arg string) (ref, p string, ok bool) {
	if strings.HasPrefix(arg, ".") || strings.HasPrefix(arg, "/") {
		return "", "", false
	}
	ref, p, ok = strings.Cut(arg, ":")
	return ref, p, ok && ref != ""
}

// contentsOnly says that a path means what is in the directory alone: it ends
// in "/.", or is the directory that we are in.
func contentsOnly(p string) bool { return p == "." || strings.HasSuffix(p, "/.") }

func (c *copier) options() bandsox.CopyOptions {
	return bandsox.CopyOptions{Own: c.archive, Follow: c.follow, Progress: c.progress}
}

// guestIsDir says whether a path of the guest is a directory, or leads to one.
func (c *copier) guestIsDir(p string) (bool, error) {
	st, err := c.sb.Stat(c.ctx, p)
	if err == nil && st.Type == "symlink" {
		st, err = c.sb.Stat(c.ctx, p+"/.")
	}
	if errors.Is(err, bandsox.ErrNotFound) || errors.Is(err, bandsox.ErrInvalid) {
		return false, nil
	}
	return err == nil && st.Type == "dir", err
}

// in copies into the sandbox.
func (c *copier) in(local, guest string) error {
	isDir, err := c.guestIsDir(guest)
	if err != nil {
		return err
	}
	if local == "-" {
		if isDir {
			_, err := c.sb.Untar(c.ctx, os.Stdin, guest, c.options())
			return err
		}
		_, err := c.sb.WriteFrom(c.ctx, guest, os.Stdin, 0)
		return err
	}
	look := os.Lstat
	if c.follow || strings.HasSuffix(local, "/") || contentsOnly(local) {
		look = os.Stat
	}
	fi, err := look(local)
	if err != nil {
		return usageError("%w", err)
	}
	switch {
	case fi.IsDir():
		if isDir && !contentsOnly(local) {
			guest = path.Join(guest, realBase(local))
		}
		return c.sb.CopyTo(c.ctx, os.DirFS(local), guest, c.options())
	case isDir:
		guest = path.Join(guest, filepath.Base(local))
	case strings.HasSuffix(guest, "/"):
		guest = path.Join(guest, filepath.Base(local)) // its parents are made
	}
	if !fi.Mode().IsRegular() {
		return c.linkIn(local, fi, guest)
	}
	if c.archive {
		return c.tarIn(local, fi, guest)
	}
	_, err = c.sb.Upload(c.ctx, local, guest, bandsox.TransferOptions{Progress: c.progress})
	return err
}

// realBase is the name of a directory, which may be written "..".
func realBase(local string) string {
	if abs, err := filepath.Abs(local); err == nil {
		local = abs
	}
	return filepath.Base(local)
}

// linkIn copies a symlink; there is nothing to copy of a device.
func (c *copier) linkIn(local string, fi fs.FileInfo, guest string) error {
	if fi.Mode().Type() != fs.ModeSymlink {
		return usageError("%s is neither a file nor a directory", local)
	}
	return c.tarIn(local, fi, guest)
}

// tarIn copies one file by way of an archive, which keeps all there is to it.
func (c *copier) tarIn(local string, fi fs.FileInfo, guest string) error {
	target := ""
	var content io.Reader = strings.NewReader("")
	if fi.Mode().IsRegular() {
		f, err := os.Open(local)
		if err != nil {
			return usageError("%w", err)
		}
		defer f.Close()
		content = io.LimitReader(f, fi.Size())
	} else if t, err := os.Readlink(local); err == nil {
		target = t
	}
	h, err := tar.FileInfoHeader(fi, target)
	if err != nil {
		return usageError("%w", err)
	}
	h.Name = path.Base(guest)
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		err := tw.WriteHeader(h)
		if err == nil {
			_, err = io.Copy(tw, content)
		}
		w.CloseWithError(errors.Join(err, tw.Close()))
	}()
	defer r.Close()
	_, err = c.sb.Untar(c.ctx, r, path.Dir(guest), c.options())
	return err
}

// out copies out of the sandbox.
func (c *copier) out(guest, local string) error {
	st, err := c.sb.Stat(c.ctx, guest)
	o := c.options()
	o.Follow = c.follow || strings.HasSuffix(guest, "/") || contentsOnly(guest)
	if err == nil && st.Type == "symlink" && o.Follow {
		var isDir bool
		if isDir, err = c.guestIsDir(guest); isDir {
			st.Type = "dir"
		} else {
			st.Type = "file"
		}
	}
	if err != nil {
		return err
	}
	name := path.Base(path.Join("/", guest))
	if local == "-" {
		if st.Type == "file" {
			return c.cat(guest, os.Stdout)
		}
		if !contentsOnly(guest) && name != "/" {
			o.Name = name
		}
		return c.sb.Tar(c.ctx, guest, os.Stdout, o)
	}
	into, err := os.Stat(local)
	isDir := err == nil && into.IsDir()
	if strings.HasSuffix(local, "/") && !isDir && st.Type != "dir" {
		return usageError("%s is not a directory", local)
	}
	if isDir && !(st.Type == "dir" && contentsOnly(guest)) && name != "/" {
		local = filepath.Join(local, name)
	}
	switch st.Type {
	case "dir":
		if err == nil && !isDir {
			return usageError("%s is not a directory", local)
		}
		return c.sb.CopyFrom(c.ctx, guest, local, o)
	case "symlink":
		if err == nil && !into.Mode().IsRegular() {
			return usageError("%s is there and no regular file: a symbolic link does not replace it", local)
		}
		tmp := filepath.Join(filepath.Dir(local), ".bandsox-"+rand.Text())
		err := os.Symlink(st.Target, tmp)
		if err == nil {
			err = os.Rename(tmp, local)
		}
		if err != nil {
			_ = os.Remove(tmp)
			return usageError("%w", err)
		}
		return nil
	}
	if fi, err := os.Stat(local); err == nil && !fi.Mode().IsRegular() { // a device, a pipe: written to, never replaced
		w, err := os.OpenFile(local, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(c.cat(guest, w), w.Close())
	}
	if _, err := c.sb.Download(c.ctx, guest, local, bandsox.TransferOptions{Progress: c.progress}); err != nil {
		return err
	}
	if c.archive {
		return os.Lchown(local, int(st.UID), int(st.GID))
	}
	return nil
}

func (c *copier) cat(guest string, w io.Writer) error {
	f, err := c.sb.Open(c.ctx, guest)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
