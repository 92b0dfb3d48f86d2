package bandsox

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	pathpkg "path"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/wire"
)

// CopyOptions are for copying trees of files. The zero value copies content,
// modes, times, symlinks, hard links and holes.
type CopyOptions struct {
	// Own keeps numeric owners. Else what is made in the guest is root's, and
	// what is made here is ours.
	Own bool
	// Special has the host take over from a guest what may be dangerous: setuid
	// and setgid bits, devices and fifos, attributes other than user.*. A guest
	// always takes them.
	Special bool
	// Follow copies what the path leads to, if it is a symlink itself.
	Follow bool
	// Name is what Tar calls the tree in the archive: "usr" for usr/bin/…; empty:
	// what is in it alone. A single file has its own name.
	Name string
	// MaxEntries and MaxBytes bound what is taken from a guest. Zero: about four
	// million files, of any size.
	MaxEntries int64
	MaxBytes   int64
	// Progress is called now and then with the bytes that have been copied;
	// total is 0: nobody knows.
	Progress func(done, total int64)
}

func (o CopyOptions) pack() agent.PackOptions {
	return agent.PackOptions{Own: o.Own, Progress: o.Progress}
}

// CopyTo copies what is in fsys, os.DirFS(dir) say, into the directory dir of
// the sandbox, which is made if it isn't there. A file there is replaced at once; a
// directory is kept and added to; one in place of the other is a conflict. Nothing is
// written outside of dir, whatever symlinks are in it. If some of it changed
// while it was read, the error is a conflict, and all is there.
func (sb *Sandbox) CopyTo(ctx context.Context, fsys fs.FS, dir string, o CopyOptions) error {
	_, err := sb.put(ctx, dir, agent.FromFS(fsys, o.pack()))
	return err
}

// Untar unpacks a tar archive into the directory dir of the sandbox, by the
// rules of CopyTo. It returns how many bytes of content it had.
func (sb *Sandbox) Untar(ctx context.Context, r io.Reader, dir string, o CopyOptions) (int64, error) {
	return sb.put(ctx, dir, agent.FromTar(r, o.pack()))
}

func (sb *Sandbox) put(ctx context.Context, dir string, src *agent.Source) (int64, error) {
	client, err := sb.running(ctx)
	if err != nil {
		return 0, fail("copy", dir, err)
	}
	n, err := client.WriteTree(ctx, wire.TreeRequest{Path: dir}, src)
	return n, fail("copy", dir, err)
}

// CopyFrom copies what is in the directory dir of the sandbox into the
// directory local of this host, which is made if it isn't there, by the rules
// of CopyTo. The guest is not trusted: nothing it says makes the host write,
// link or change a mode outside of local. Symlinks are kept and not followed.
func (sb *Sandbox) CopyFrom(ctx context.Context, dir, local string, o CopyOptions) error {
	t, err := sb.get(ctx, dir, o)
	if err != nil {
		return fail("copy", dir, err)
	}
	defer t.Close()
	if t.Root.Type != "dir" {
		return invalid("copy", dir, "it is a %s and not a directory", t.Root.Type)
	}
	made := os.Mkdir(local, 0o755)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return fail("copy", local, made)
	}
	root, err := os.OpenRoot(local)
	if err != nil {
		return fail("copy", local, err)
	}
	defer root.Close()
	return fail("copy", dir, t.Extract(root, agent.ExtractOptions{Own: o.Own, Special: o.Special, Made: made == nil}))
}

// Tar writes a file or directory of the sandbox to w as a tar archive, with
// owners, modes, times, links, devices and attributes as they are there.
func (sb *Sandbox) Tar(ctx context.Context, path string, w io.Writer, o CopyOptions) error {
	t, err := sb.get(ctx, path, o)
	if err != nil {
		return fail("copy", path, err)
	}
	defer t.Close()
	if o.Name == "" && t.Root.Type != "dir" {
		o.Name = pathpkg.Base(path)
	}
	return fail("copy", path, t.Tar(w, o.Name))
}

func (sb *Sandbox) get(ctx context.Context, path string, o CopyOptions) (*agent.Tree, error) {
	client, err := sb.reading(ctx)
	if err != nil {
		return nil, err
	}
	t, err := client.ReadTree(ctx, path, o.Follow, agent.Limits{MaxEntries: o.MaxEntries, MaxBytes: o.MaxBytes})
	if err == nil {
		t.Progress = o.Progress
	}
	return t, err
}
