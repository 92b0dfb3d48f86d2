package wire

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// pieces hands out b in pieces of the sizes given, over and over.
func pieces(b []byte, sizes []int) func() ([]byte, error) {
	i := 0
	return func() ([]byte, error) {
		if len(b) == 0 {
			return nil, io.EOF
		}
		n := min(sizes[i%len(sizes)], len(b))
		i++
		p := b[:n]
		b = b[n:]
		return p, nil
	}
}

// TestTreeProperty: whatever is packed, in whatever buffer, comes out as it
// was, in whatever pieces it travels.
func TestTreeProperty(t *testing.T) {
	name := rapid.StringMatching(`[a-z\x80-\xff]{1,12}(/[a-z.]{3,9}){0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		var sent []byte
		buf := make([]byte, rapid.IntRange(64, 9000).Draw(t, "buffer"))
		w := NewTreeWriter(buf, func(n int) error { sent = append(sent, buf[:n]...); return nil })
		var entries []Entry
		var contents [][]byte
		for range rapid.IntRange(0, 20).Draw(t, "entries") {
			e := Entry{
				Type: rapid.SampledFrom([]byte("fdlhcbp")).Draw(t, "type"), Path: name.Draw(t, "path"),
				Mode: rapid.Uint32Range(0, 0o7777).Draw(t, "mode"), UID: rapid.Uint32().Draw(t, "uid"), GID: rapid.Uint32().Draw(t, "gid"),
				Sec: rapid.Int64().Draw(t, "sec"), Nsec: rapid.Uint32Range(0, 1e9-1).Draw(t, "nsec"), Major: rapid.Uint32().Draw(t, "major"),
			}
			if rapid.Bool().Draw(t, "xattr") {
				e.Xattrs = []Xattr{{"user.x", rapid.StringN(0, 100, 100).Draw(t, "value")}}
			}
			if e.Type == EntrySymlink || e.Type == EntryLink {
				e.Link = name.Draw(t, "link")
			}
			var content []byte
			if e.Type == EntryFile {
				content = rapid.SliceOfN(rapid.Byte(), 0, 500).Draw(t, "content")
			}
			hole := 0
			if len(content) > 0 {
				hole = rapid.IntRange(0, 3000).Draw(t, "hole")
			}
			e.Size = int64(len(content) + hole)
			if err := w.Entry(&e); err != nil {
				t.Fatal(err)
			}
			for rest := content; len(rest) > 0; {
				room, err := w.Room()
				if err != nil || len(room) == 0 {
					t.Fatal("no room", err)
				}
				n := copy(room, rest)
				w.Wrote(n)
				rest = rest[n:]
			}
			if err := w.Hole(int64(hole)); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "warn") {
				w.Warn("%s: odd", e.Path)
			}
			entries, contents = append(entries, e), append(contents, append(content, make([]byte, hole)...))
		}
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
		sizes := rapid.SliceOfN(rapid.IntRange(1, 700), 1, 5).Draw(t, "pieces")
		r := NewTreeReader(pieces(sent, sizes))
		for i, want := range entries {
			got, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(&want, got); d != "" {
				t.Fatal(d)
			}
			if rapid.Bool().Draw(t, "skip") {
				continue
			}
			var content []byte
			for {
				b, zeros, err := r.Content()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				content = append(append(content, b...), make([]byte, zeros)...)
			}
			if !bytes.Equal(content, contents[i]) {
				t.Fatalf("content of %d bytes came as %d, or others", len(contents[i]), len(content))
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
	})
}

// FuzzTreeReader: what it takes has been checked, and it ends.
func FuzzTreeReader(f *testing.F) {
	buf := make([]byte, 1024)
	var b []byte
	w := NewTreeWriter(buf, func(n int) error { b = append(b, buf[:n]...); return nil })
	w.Entry(&Entry{Type: EntryFile, Path: "a/b", Size: 10, Xattrs: []Xattr{{"user.x", "y"}}})
	w.Hole(10)
	w.Warn("odd")
	w.Entry(&Entry{Type: EntrySymlink, Path: "l", Link: "../.."})
	w.End()
	f.Add(b, 3)
	f.Add([]byte("e\xff\xff\xff\xff"), 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		r := NewTreeReader(pieces(b, []int{max(1, size%100)}))
		for {
			e, err := r.Next()
			if err != nil {
				return
			}
			if err := e.Check(); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
			total := int64(0)
			for {
				data, zeros, err := r.Content()
				if err == io.EOF {
					if total != e.Size {
						t.Fatalf("%d bytes of %d", total, e.Size)
					}
					break
				}
				if err != nil {
					return
				}
				if len(data) > 0 == (zeros > 0) || zeros < 0 {
					t.Fatalf("a piece of %d bytes and %d zeros", len(data), zeros)
				}
				total += int64(len(data)) + zeros
			}
		}
	})
}

func TestTreePaths(t *testing.T) {
	for path, ok := range map[string]bool{
		".": true, "a": true, "a/b": true, "a/...": true, "\xff": true,
		"": false, "/": false, "/a": false, "a/": false, "a//b": false, "..": false, "a/..": false, "./a": false, "a/./b": false, "a\x00": false,
	} {
		e := Entry{Type: EntryDir, Path: path}
		if err := e.Check(); (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
}
