package client

import (
	"context"
	"io/fs"
	"net/http"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/transfer"
	"github.com/bandsox/bandsox/internal/wire"
)

func (sb *Sandbox) change(ctx context.Context, op string, in, out any) error {
	return sb.call(ctx, op, http.MethodPost, "files/"+op, nil, in, out)
}

// Mkdir makes a directory. Parents that it makes have mode 0755.
func (sb *Sandbox) Mkdir(ctx context.Context, path string, o bandsox.MkdirOptions) error {
	return sb.change(ctx, "mkdir", api.Mkdir{Path: wire.Text(path), Parents: o.Parents, Mode: chmodBits(o.Mode), Owner: o.Owner}, nil)
}

// Rename moves a file or directory to a new path on the same file system. It
// is atomic. What is at the new path is left alone unless the options say otherwise.
func (sb *Sandbox) Rename(ctx context.Context, from, to string, o bandsox.RenameOptions) error {
	return sb.change(ctx, "rename", api.RenameFile{Path: wire.Text(from), To: wire.Text(to), Overwrite: o.Overwrite}, nil)
}

// Remove removes a file, or an empty directory. It never follows a symbolic
// link, and never removes the root.
func (sb *Sandbox) Remove(ctx context.Context, path string, o bandsox.RemoveOptions) error {
	return sb.change(ctx, "remove", api.RemoveFile{Path: wire.Text(path), Recursive: o.Recursive}, nil)
}

// Chmod changes the permissions of a file, of what a symbolic link leads to.
func (sb *Sandbox) Chmod(ctx context.Context, path string, mode fs.FileMode, o bandsox.ChmodOptions) error {
	return sb.change(ctx, "chmod", api.Chmod{Path: wire.Text(path), Mode: chmodBits(mode), Recursive: o.Recursive}, nil)
}

// Chown changes the owner of a file: "name", "uid", "name:group", ":group", or
// "name:" for a user with the user's own group.
func (sb *Sandbox) Chown(ctx context.Context, path, owner string, o bandsox.ChownOptions) error {
	return sb.change(ctx, "chown", api.Chown{Path: wire.Text(path), Owner: owner, Recursive: o.Recursive, NoFollow: o.NoFollow}, nil)
}

// Symlink makes a symbolic link at path that leads to target, which need not exist.
func (sb *Sandbox) Symlink(ctx context.Context, target, path string) error {
	return sb.change(ctx, "symlink", api.Symlink{Path: wire.Text(path), Target: wire.Text(target)}, nil)
}

// Replace puts a text in the place of another wherever that is in a file, and
// returns how often. A text that isn't there is an error of code not_found.
func (sb *Sandbox) Replace(ctx context.Context, path, old, new string, o bandsox.ReplaceOptions) (int64, error) {
	var done api.Replaced
	err := sb.change(ctx, "replace", api.Replace{Path: wire.Text(path), Old: wire.Text(old), New: wire.Text(new), Limit: o.Limit, Expect: o.Expect}, &done)
	return done.Count, err
}

// chmodBits takes both spellings of setuid and its like: Go's and chmod's.
func chmodBits(m fs.FileMode) uint32 { return transfer.ModeBits(m) | uint32(m)&0o7000 }
