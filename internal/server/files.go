package server

import (
	"context"
	"fmt"
	"io/fs"
	"path"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

const filesAbout = "A path is the sandbox's; a relative one is taken from its root. A name that is not UTF-8 has lone surrogates in JSON " +
	"(\\udc80 to \\udcff, as Python's surrogateescape) and %80 to %FF in a query. What is read can be read of a stopped sandbox too."

var fileRoutes = []route{
	{method: "GET", path: "/api/vms/{id}/files", need: auth.NeedRead, tag: tagFiles, summary: "List a directory", do: call((*Server).listFiles)},
	{method: "GET", path: "/api/vms/{id}/file-info", need: auth.NeedRead, tag: tagFiles, summary: "A file's size, mode and time", do: call((*Server).fileInfo)},
	{method: "GET", path: "/api/vms/{id}/read-file", need: auth.NeedRead, tag: tagFiles, summary: "A file as text in JSON", about: "GET …/file has its bytes.", do: stream((*Server).readFile, readFileDoc)},
	{method: "POST", path: "/api/vms/{id}/write-file", need: auth.NeedUse, tag: tagFiles, summary: "Replace a file by text or base64 in JSON", about: "PUT …/file takes bytes. The content may have 256 MiB.",
		notRunning: 404, do: stream((*Server).writeFile, writeFileDoc)},
	{method: "POST", path: "/api/vms/{id}/append-file", need: auth.NeedUse, tag: tagFiles, summary: "Add text or base64 in JSON to a file", notRunning: 404, do: stream((*Server).appendFile, writeFileDoc)},
	{method: "POST", path: "/api/vms/{id}/upload", need: auth.NeedUse, tag: tagFiles, summary: "Replace a file by one of a form", notRunning: 404, do: stream((*Server).uploadFile, uploadDoc)},
	{method: "GET", path: "/api/vms/{id}/download", need: auth.NeedRead, tag: tagFiles, summary: "A file's bytes, to save", do: stream((*Server).downloadFile, fileDoc)},

	{method: "GET", path: "/api/vms/{id}/file", need: auth.NeedRead, tag: tagFiles, summary: "A file's bytes, or some of them",
		about: "Takes Range, If-Range, If-Match, If-None-Match and their like. HEAD tells the size.", do: stream((*Server).getFile, inlineDoc)},
	{method: "PUT", path: "/api/vms/{id}/file", need: auth.NeedUse, tag: tagFiles, summary: "Replace a file by the request's body, or make it with its parents",
		about: "The file there is replaced at once when all has come, or stays as it was. If-None-Match: * writes only where there is none. " +
			"With partial, what has come when the connection breaks is kept for a day: POST …/files/partial tells how much, and PUT with offset goes on.",
		do: stream((*Server).putFile, putDoc)},
	{method: "PATCH", path: "/api/vms/{id}/file", need: auth.NeedUse, tag: tagFiles, summary: "Add the request's body to the end of a file", do: stream((*Server).patchFile, putDoc)},
	{method: "POST", path: "/api/vms/{id}/files/partial", need: auth.NeedUse, tag: tagFiles, summary: "How much of a broken upload has come", do: call((*Server).partialFile)},
	{method: "GET", path: "/api/vms/{id}/tree", need: auth.NeedRead, tag: tagFiles, summary: "A file or directory as a tar archive", do: stream((*Server).getTree, getTreeDoc)},
	{method: "PUT", path: "/api/vms/{id}/tree", need: auth.NeedUse, tag: tagFiles, summary: "Unpack a tar archive into a directory",
		about: "Nothing is written outside of the directory. Files there are replaced, directories kept.", do: stream((*Server).putTree, putTreeDoc)},

	{method: "GET", path: "/api/vms/{id}/stat", need: auth.NeedRead, tag: tagFiles, summary: "What is known of a file; of a symlink itself", do: call((*Server).statFile)},
	{method: "GET", path: "/api/vms/{id}/sum", need: auth.NeedRead, tag: tagFiles, summary: "A file's SHA-256", do: call((*Server).sumFile)},
	{method: "GET", path: "/api/vms/{id}/lines", need: auth.NeedRead, tag: tagFiles, summary: "Some of the lines of a file", do: call((*Server).fileLines)},
	{method: "GET", path: "/api/vms/{id}/glob", need: auth.NeedRead, tag: tagFiles, summary: "The paths that match a pattern", do: call((*Server).globFiles)},
	{method: "GET", path: "/api/vms/{id}/find", need: auth.NeedRead, tag: tagFiles, summary: "All that is below a directory, a line of JSON each", about: linesAbout, do: stream((*Server).findFiles, findDoc)},
	{method: "POST", path: "/api/vms/{id}/search", need: auth.NeedRead, tag: tagFiles, summary: "The lines of files that hold a text, a line of JSON each", about: linesAbout, do: stream((*Server).searchFiles, searchDoc)},
	{method: "GET", path: "/api/vms/{id}/watch", need: auth.NeedRead, tag: tagFiles, summary: "What happens to files, as events",
		about: "The first event is watching: what happens after it is told. Then change, and at the end error or end.", do: stream((*Server).watchFiles, watchDoc)},

	{method: "POST", path: "/api/vms/{id}/files/mkdir", need: auth.NeedUse, tag: tagFiles, summary: "Make a directory", do: call((*Server).mkdir)},
	{method: "POST", path: "/api/vms/{id}/files/rename", need: auth.NeedUse, tag: tagFiles, summary: "Move a file or directory", do: call((*Server).renameFile)},
	{method: "POST", path: "/api/vms/{id}/files/remove", need: auth.NeedUse, tag: tagFiles, summary: "Remove a file or directory", do: call((*Server).removeFile)},
	{method: "POST", path: "/api/vms/{id}/files/chmod", need: auth.NeedUse, tag: tagFiles, summary: "Change permissions", do: call((*Server).chmodFile)},
	{method: "POST", path: "/api/vms/{id}/files/chown", need: auth.NeedUse, tag: tagFiles, summary: "Change the owner", do: call((*Server).chownFile)},
	{method: "POST", path: "/api/vms/{id}/files/symlink", need: auth.NeedUse, tag: tagFiles, summary: "Make a symbolic link", do: call((*Server).symlinkFile)},
	{method: "POST", path: "/api/vms/{id}/files/replace", need: auth.NeedUse, tag: tagFiles, summary: "Put a text in the place of another in a file", do: call((*Server).replaceInFile)},
}

// FileRef is the path and query of a route about one file.
type FileRef struct {
	VMRef
	Path string `query:"path" required:"true" doc:"The file's path in the sandbox"`
}

func (s *Server) listFiles(ctx context.Context, in *struct {
	VMRef
	Path string `query:"path" default:"/" doc:"The directory"`
}) (*answer[api.FileList], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	list, err := sb.ReadDir(ctx, in.Path)
	if err != nil {
		return nil, err
	}
	out := api.FileList{Path: wire.Text(in.Path), Files: []api.FileEntry{}}
	for _, st := range list {
		out.Files = append(out.Files, api.FileEntry{Name: wire.Text(path.Base(st.Path)), Path: wire.Text(st.Path), Size: st.Size, IsDir: st.Type == "dir", IsFile: st.Type == "file",
			Mtime: st.Mtime.Unix(), Type: st.Type, Mode: st.Mode, UID: st.UID, GID: st.GID, Target: wire.Text(st.Target)})
	}
	return answered(out), nil
}

// fileTypes are the types as the mode of stat has them.
var fileTypes = map[string]uint32{"file": 0o100000, "dir": 0o040000, "symlink": 0o120000, "char": 0o020000, "block": 0o060000, "fifo": 0o010000, "socket": 0o140000}

func (s *Server) fileInfo(ctx context.Context, in *FileRef) (*answer[api.FileInfo], error) {
	st, err := s.stat(ctx, in)
	return answered(api.FileInfo{Path: wire.Text(in.Path), Info: api.FileInfoDetails{Size: st.Size, Mode: fmt.Sprintf("%o", fileTypes[st.Type]|st.Mode),
		Mtime: st.Mtime.Unix(), Type: st.Type, UID: st.UID, GID: st.GID}}), err
}

func (s *Server) stat(ctx context.Context, in *FileRef) (bandsox.Stat, error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return bandsox.Stat{}, err
	}
	return sb.Stat(ctx, in.Path)
}

func (s *Server) statFile(ctx context.Context, in *FileRef) (*answer[bandsox.Stat], error) {
	st, err := s.stat(ctx, in)
	return answered(st), err
}

func (s *Server) sumFile(ctx context.Context, in *FileRef) (*answer[api.Sum], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	sum, err := sb.Sum(ctx, in.Path)
	return answered(api.Sum{SHA256: sum}), err
}

func (s *Server) fileLines(ctx context.Context, in *struct {
	FileRef
	Offset int64 `query:"offset" doc:"Leave out so many"`
	Limit  int64 `query:"limit" doc:"At most so many; 0: all"`
}) (*answer[bandsox.Lines], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	lines, err := sb.Lines(ctx, in.Path, in.Offset, in.Limit)
	return answered(lines), err
}

func (s *Server) globFiles(ctx context.Context, in *struct {
	VMRef
	Pattern string `query:"pattern" required:"true" doc:"* and ? within a name, ** any number of directories, [a-z]"`
}) (*answer[[]wire.Text], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	paths, err := sb.Glob(ctx, in.Pattern)
	return answered(append([]wire.Text{}, api.Texts(paths)...)), err
}

// changed finds the sandbox and has do change it.
func changed[B any](s *Server, ctx context.Context, ref string, done string, b B, do func(*bandsox.Sandbox, B) error) (*answer[api.Status], error) {
	sb, err := s.m.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return status(done), do(sb, b)
}

// inVM is the request of a typed route about one sandbox with a body.
type inVM[B any] struct {
	VMRef
	Body B
}

func (s *Server) mkdir(ctx context.Context, in *inVM[api.Mkdir]) (*answer[api.Status], error) {
	return changed(s, ctx, in.ID, "made", in.Body, func(sb *bandsox.Sandbox, b api.Mkdir) error {
		return sb.Mkdir(ctx, string(b.Path), bandsox.MkdirOptions{Parents: b.Parents, Mode: fs.FileMode(b.Mode), Owner: b.Owner})
	})
}

func (s *Server) renameFile(ctx context.Context, in *inVM[api.RenameFile]) (*answer[api.Status], error) {
	return changed(s, ctx, in.ID, "renamed", in.Body, func(sb *bandsox.Sandbox, b api.RenameFile) error {
		return sb.Rename(ctx, string(b.Path), string(b.To), bandsox.RenameOptions{Overwrite: b.Overwrite})
	})
}

func (s *Server) removeFile(ctx context.Context, in *inVM[api.RemoveFile]) (*answer[api.Status], error) {
	return changed(s, ctx, in.ID, "removed", in.Body, func(sb *bandsox.Sandbox, b api.RemoveFile) error {
		return sb.Remove(ctx, string(b.Path), bandsox.RemoveOptions{Recursive: b.Recursive})
	})
}

func (s *Server) chmodFile(ctx context.Context, in *inVM[api.Chmod]) (*answer[api.Status], error) {
	return changed(s, ctx, in.ID, "changed", in.Body, func(sb *bandsox.Sandbox, b api.Chmod) error {
		if b.Mode > 0o7777 {
			return invalid("mode %d: is none", b.Mode)
		}
		return sb.Chmod(ctx, string(b.Path), fs.FileMode(b.Mode), bandsox.ChmodOptions{Recursive: b.Recursive})
	})
}

func (s *Server) chownFile(ctx context.Context, in *inVM[api.Chown]) (*answer[api.Status], error) {
	return changed(s, ctx, in.ID, "changed", in.Body, func(sb *bandsox.Sandbox, b api.Chown) error {
		return sb.Chown(ctx, string(b.Path), b.Owner, bandsox.ChownOptions{Recursive: b.Recursive, NoFollow: b.NoFollow})
	})
}

func (s *Server) symlinkFile(ctx context.Context, in *inVM[api.Symlink]) (*answer[api.Status], error) {
	return changed(s, ctx, in.ID, "made", in.Body, func(sb *bandsox.Sandbox, b api.Symlink) error {
		return sb.Symlink(ctx, string(b.Target), string(b.Path))
	})
}

func (s *Server) replaceInFile(ctx context.Context, in *inVM[api.Replace]) (*answer[api.Replaced], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	b := in.Body
	n, err := sb.Replace(ctx, string(b.Path), string(b.Old), string(b.New), bandsox.ReplaceOptions{Limit: b.Limit, Expect: b.Expect})
	return answered(api.Replaced{Status: "replaced", Count: n}), err
}
