package main

import (
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
)

func newCopy(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "cp SANDBOX:PATH LOCAL | LOCAL SANDBOX:PATH",
		Short: "Copy a file into or out of a running sandbox",
		Long: `Copy a file into or out of a running sandbox. LOCAL may be - for standard input
or output. A path that ends in / is a directory to copy into.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, fromPath, fromGuest := cutGuest(args[0])
			to, toPath, toGuest := cutGuest(args[1])
			switch {
			case fromGuest == toGuest:
				return usageError("one of the two must be SANDBOX:PATH, the other a local path (write ./a:b for a local file with a colon)")
			case fromGuest:
				return a.withSandbox(cmd.Context(), from, func(sb *bandsox.Sandbox) error {
					return copyOut(cmd, sb, fromPath, args[1])
				})
			}
			return a.withSandbox(cmd.Context(), to, func(sb *bandsox.Sandbox) error {
				return copyIn(cmd, sb, args[0], toPath)
			})
		},
	}
}

// cutGuest splits SANDBOX:PATH. What begins with . or / is local.
func cutGuest(arg string) (ref, p string, ok bool) {
	if strings.HasPrefix(arg, ".") || strings.HasPrefix(arg, "/") {
		return "", "", false
	}
	ref, p, ok = strings.Cut(arg, ":")
	return ref, p, ok && ref != ""
}

func copyIn(cmd *cobra.Command, sb *bandsox.Sandbox, local, guest string) error {
	if strings.HasSuffix(guest, "/") {
		guest = path.Join(guest, filepath.Base(local))
	}
	if local == "-" {
		_, err := sb.WriteFrom(cmd.Context(), guest, os.Stdin, 0)
		return err
	}
	f, err := os.Open(local)
	if err != nil {
		return usageError("%w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return usageError("%s is not a regular file; for a directory: tar c -C %s . | bandsox exec -i %s tar x", local, local, sb.ID())
	}
	_, err = sb.WriteFrom(cmd.Context(), guest, f, st.Mode())
	return err
}

// copyOut writes beside the target and renames: a broken copy leaves no half file.
func copyOut(cmd *cobra.Command, sb *bandsox.Sandbox, guest, local string) (err error) {
	st, r, err := sb.OpenFile(cmd.Context(), guest)
	if err != nil {
		return err
	}
	defer r.Close()
	if local == "-" {
		_, err = io.Copy(os.Stdout, r)
		return err
	}
	if d, err := os.Stat(local); err == nil && d.IsDir() || strings.HasSuffix(local, "/") {
		local = filepath.Join(local, path.Base(guest))
	}
	f, err := os.CreateTemp(filepath.Dir(local), ".bandsox-*")
	if err != nil {
		return usageError("%w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = io.Copy(f, r); err != nil {
		return err
	}
	if err = f.Chmod(os.FileMode(st.Mode).Perm()); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), local)
}
