// Package web holds the pages: one application, built of src by build and
// committed in dist, so that go install gives a working dashboard and nobody
// needs npm. Its files' names hold their hashes, but for the page itself.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"path"
	"sync"
)

//go:generate go run -C build .

//go:embed dist
var dist embed.FS

// Page is the name of the page that all paths are answered with.
const Page = "index.html"

// File is one file of the pages.
type File struct {
	Name string
	Type string // of its content
	ETag string
	Body []byte
	Gzip []byte // Body compressed
}

// Open returns the file of this name; ok is false if there is none.
func Open(name string) (f File, ok bool) {
	once, ok := files()[name]
	if !ok {
		return File{}, false
	}
	return once(), true
}

// files are all, each read and compressed when it is first asked for.
var files = sync.OnceValue(func() map[string]func() File {
	all := map[string]func() File{}
	entries, err := dist.ReadDir("dist")
	if err != nil {
		panic(err) // embedded
	}
	for _, e := range entries {
		all[e.Name()] = sync.OnceValue(func() File { return read(e.Name()) })
	}
	return all
})

// types are those that the host's own table might have otherwise.
var types = map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8", ".svg": "image/svg+xml"}

func read(name string) File {
	b, err := dist.ReadFile("dist/" + name)
	if err != nil {
		panic(err) // embedded
	}
	f := File{Name: name, Body: b, Type: types[path.Ext(name)]}
	if f.Type == "" {
		f.Type = mime.TypeByExtension(path.Ext(name))
	}
	sum := sha256.Sum256(b)
	f.ETag = hex.EncodeToString(sum[:8])
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // fails for an unknown level only
	_, _ = z.Write(b)                                          // into memory
	_ = z.Close()
	f.Gzip = packed.Bytes()
	return f
}
