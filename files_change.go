package bandsox

import (
	"context"
	"io/fs"

	"github.com/bandsox/bandsox/internal/transfer"
	"github.com/bandsox/bandsox/internal/wire"
)

// MkdirOptions are how Mkdir makes a directory.
type MkdirOptions struct {
	Parents bool        // make those that lead to it too; not an error if it is there
	Mode    fs.FileMode // 0: 0755
	Owner   string      // as for Chown; empty: root
}

// Mkdir makes a directory. Parents that it makes have mode 0755.
func (sb *Sandbox) Mkdir(ctx context.Context, path string, o MkdirOptions) error {
	_, err := sb.changeFile(ctx, wire.OpMkdir, path, wire.ChangeRequest{Parents: o.Parents, Mode: chmodBits(o.Mode), Owner: o.Owner})
	return err
}

// RenameOptions are how Rename renames.
type RenameOptions struct {
	Overwrite bool // replace what is at the new path: a file, or an empty directory
}

// Rename moves a file or directory to a new path on the same file system. It
// is atomic. What is at the new path is left alone unless the options say otherwise.
func (sb *Sandbox) Rename(ctx context.Context, from, to string, o RenameOptions) error {
	_, err := sb.changeFile(ctx, wire.OpRename, from, wire.ChangeRequest{To: wire.Text(to), Overwrite: o.Overwrite})
	return err
}

// RemoveOptions are what Remove removes.
type RemoveOptions struct {
	Recursive bool // a directory with all that is in it
}

// Remove removes a file, or an empty directory. It never follows a symbolic
// link, and never removes the root.
func (sb *Sandbox) Remove(ctx context.Context, path string, o RemoveOptions) error {
	_, err := sb.changeFile(ctx, wire.OpRemove, path, wire.ChangeRequest{Recursive: o.Recursive})
	return err
}

// ChmodOptions are how far Chmod goes.
type ChmodOptions struct {
	Recursive bool // all that is in a directory too, but symbolic links
}

// Chmod changes the permissions of a file, of what a symbolic link leads to.
// Setuid, setgid and sticky may be spelt as Go does or as chmod does: 0o4755.
func (sb *Sandbox) Chmod(ctx context.Context, path string, mode fs.FileMode, o ChmodOptions) error {
	_, err := sb.changeFile(ctx, wire.OpChmod, path, wire.ChangeRequest{Mode: chmodBits(mode), Recursive: o.Recursive})
	return err
}

// ChownOptions are what Chown changes.
type ChownOptions struct {
	Recursive bool // all that is in a directory too; then symbolic links themselves
	NoFollow  bool // a symbolic link itself, not what it leads to
}

// Chown changes the owner of a file: "name", "uid", "name:group", ":group", or
// "name:" for a user with the user's own group. Names are those of the guest's
// /etc/passwd and /etc/group.
func (sb *Sandbox) Chown(ctx context.Context, path, owner string, o ChownOptions) error {
	_, err := sb.changeFile(ctx, wire.OpChown, path, wire.ChangeRequest{Owner: owner, Recursive: o.Recursive, NoFollow: o.NoFollow})
	return err
}

// Symlink makes a symbolic link at path that leads to target, which need not exist.
func (sb *Sandbox) Symlink(ctx context.Context, target, path string) error {
	_, err := sb.changeFile(ctx, wire.OpSymlink, path, wire.ChangeRequest{To: wire.Text(target)})
	return err
}

// ReplaceOptions are how often Replace replaces.
type ReplaceOptions struct {
	Limit  int64 // so often, from the start of the file; 0: wherever the text is
	Expect int64 // change nothing unless the text is there just so often; 0: at least once
}

// Replace puts a text in the place of another wherever that is in a file, and
// returns how often. The file is replaced as a whole: readers in the guest see
// the old one or the new, with its mode and owner. A text that isn't there is
// an error of code not_found.
func (sb *Sandbox) Replace(ctx context.Context, path, old, new string, o ReplaceOptions) (int64, error) {
	return sb.changeFile(ctx, wire.OpReplace, path, wire.ChangeRequest{Old: wire.Text(old), New: wire.Text(new), Limit: o.Limit, Expect: o.Expect})
}

func (sb *Sandbox) changeFile(ctx context.Context, op wire.Op, path string, r wire.ChangeRequest) (int64, error) {
	client, err := sb.running(ctx)
	if err != nil {
		return 0, fail(string(op), quoted(path), err)
	}
	r.Path = wire.Text(path)
	n, err := client.Change(ctx, op, r)
	return n, fail(string(op), quoted(path), err)
}

// chmodBits takes both spellings of setuid and its like: Go's and chmod's.
func chmodBits(m fs.FileMode) uint32 { return transfer.ModeBits(m) | uint32(m)&0o7000 }
