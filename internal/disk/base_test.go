package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
	"github.com/google/go-cmp/cmp"
)

// base builds one and has e2fsck look at it.
func base(t *testing.T, tarball []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base.ext4")
	if err := BuildBase(t.Context(), path, bytes.NewReader(tarball), BaseOptions{}); err != nil {
		t.Fatal(err)
	}
	clean(t, path)
	return path
}

func clean(t *testing.T, path string) {
	t.Helper()
	need(t, "e2fsck")
	if err := Check(t.Context(), path); err != nil {
		t.Error(err)
	}
}

func TestBaseIsWhatTarExtracts(t *testing.T) {
	tarball := tarOf(t, edges()...)
	path := base(t, tarball)
	compare(t, snapshot(t, mount(t, path, "ro")), snapshot(t, extract(t, tarball)))
}

// The same, less thoroughly, without root.
func TestBaseContents(t *testing.T) {
	need(t, "debugfs")
	var files []tar.Header
	for _, h := range edges() {
		if h.Typeflag == tar.TypeReg && !strings.Contains(h.Name, "/") && !strings.Contains(h.Name, "\n") && !strings.Contains(h.Name, "\xfc") {
			files = append(files, h)
		}
	}
	path := base(t, tarOf(t, edges()...))
	for _, h := range files {
		got := debugfs(t, path, "cat "+h.Name)
		if want := contents(h.Name, int(h.Size)); !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes that differ from the %d wanted", h.Name, len(got), len(want))
		}
	}
}

func debugfs(t *testing.T, path, command string) []byte {
	t.Helper()
	bin, err := tool("debugfs")
	if err != nil {
		t.Skip("needs debugfs")
	}
	out, err := exec.Command(bin, "-R", command, path).Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v", command, err)
	}
	return out
}

var mtimeLine = regexp.MustCompile(`(?m)^\s*mtime: 0x([0-9a-f]+):([0-9a-f]+)`)

// mtime decodes the stored time as the kernel does.
func mtime(t *testing.T, path, name string) time.Time {
	t.Helper()
	m := mtimeLine.FindSubmatch(debugfs(t, path, "stat "+name))
	if m == nil {
		t.Fatalf("debugfs shows no mtime of %s", name)
	}
	sec, _ := strconv.ParseUint(string(m[1]), 16, 32)
	extra, _ := strconv.ParseUint(string(m[2]), 16, 32)
	return time.Unix(int64(int32(sec))+int64(extra&3)<<32, int64(extra>>2))
}

func TestBaseTimes(t *testing.T) {
	last := time.Unix(0x37fffffff, 4)
	times := map[string][2]time.Time{ // in the tar, in the base
		"before":   {time.Unix(-3000000000, 0), time.Unix(-1<<31, 0)},
		"first":    {time.Unix(-1<<31, 0), time.Unix(-1<<31, 0)},
		"1969":     {time.Unix(-1, 5), time.Unix(-1, 5)},
		"epoch":    {time.Unix(0, 0), time.Unix(0, 0)},
		"now":      {time.Unix(1700000000, 999999999), time.Unix(1700000000, 999999999)},
		"2038":     {time.Unix(1<<31, 1), time.Unix(1<<31, 1)},
		"2096":     {time.Unix(4000000000, 2), time.Unix(4000000000, 2)},
		"2200":     {time.Unix(7258118400, 3), time.Unix(7258118400, 3)},
		"2310":     {time.Unix(5<<31-1, 999999999), time.Unix(5<<31-1, 999999999)},
		"2310+":    {time.Unix(5<<31, 7), time.Unix(5<<31, 0)},
		"2350":     {time.Unix(12000000000, 0), time.Unix(12000000000, 0)},
		"2378":     {time.Unix(6<<31-1, 1), time.Unix(6<<31-1, 0)},
		"2378+":    {time.Unix(6<<31, 8), time.Unix(6<<31, 8)},
		"last":     {last, last},
		"after":    {last.Add(time.Second), last},
		"infinity": {time.Unix(1<<60, 4), last},
	}
	var entries []tar.Header
	for name, tm := range times {
		entries = append(entries, tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: tm[0]})
	}
	path := base(t, tarOf(t, entries...))
	for name, tm := range times {
		if got := mtime(t, path, name); !got.Equal(tm[1]) {
			t.Errorf("%s: %v became %v, not %v", name, tm[0].UTC(), got.UTC(), tm[1].UTC())
		}
	}
}

func TestBaseIsReproducible(t *testing.T) {
	tarball := tarOf(t, edges()...)
	a, b := base(t, tarball), base(t, tarball)
	if sumOf(t, a) != sumOf(t, b) {
		t.Error("two builds of one tar differ")
	}
	other := base(t, tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "other"}))
	if uuid(t, a) == uuid(t, other) || uuid(t, a) == "" {
		t.Errorf("UUIDs %s and %s of different bases", uuid(t, a), uuid(t, other))
	}
}

func uuid(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	id := string(b[superAt+superUUID:][:16])
	return strings.Trim(id, "\x00")
}

func TestSmallBases(t *testing.T) {
	for name, tarball := range map[string][]byte{
		"no bytes":   nil,
		"no entries": tarOf(t),
		"root only":  tarOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700}),
		"one file":   tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "hello", Mode: 0o755, Size: 100000}),
		"git archive": tarOf(t, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c0ffee"}},
			tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1}),
		"no parents": tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "a/b/c", Size: 1}),
		"lost+found": tarOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "lost+found", Mode: 0o700}),
	} {
		t.Run(name, func(t *testing.T) {
			path := base(t, tarball)
			if os.Getuid() == 0 {
				t.Log(len(snapshot(t, mount(t, path, "ro"))), "entries")
			}
		})
	}
}

// Files of more than four extents have an extent tree of two levels.
func TestBaseWithLargeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("needs time: writes 700 MiB of zeros")
	}
	const size = 700 << 20
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "large", Size: size, Mode: 0o644})
		io.CopyN(tw, endless{}, size-4)
		io.WriteString(tw, "tail")
		w.CloseWithError(tw.Close())
	}()
	path := filepath.Join(t.TempDir(), "base")
	if err := BuildBase(t.Context(), path, r, BaseOptions{}); err != nil {
		t.Fatal(err)
	}
	clean(t, path)
	if _, allocated, err := Usage(path); err != nil || allocated > 4<<20 {
		t.Errorf("%d bytes are allocated for zeros (%v)", allocated, err)
	}
	if !strings.HasSuffix(string(debugfs(t, path, "cat large")), "\x00tail") {
		t.Error("the file's end is not its end")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBaseRefuses(t *testing.T) {
	long := strings.Repeat("n", 256)
	file := func(h tar.Header) []byte { h.Mode = 0o644; return tarOf(t, h) }
	whole := tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 5000})
	for name, c := range map[string]struct {
		tarball []byte
		says    string
	}{
		"garbage":        {bytes.Repeat([]byte("no tar"), 500), "invalid tar header"},
		"truncated":      {whole[:3000], "unexpected EOF"},
		"long name":      {file(tar.Header{Typeflag: tar.TypeReg, Name: long}), "name"},
		"long parent":    {file(tar.Header{Typeflag: tar.TypeReg, Name: long + "/a"}), "name"},
		"long link":      {file(tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: strings.Repeat("l", 4096)}), `entry "l"`},
		"empty link":     {file(tar.Header{Typeflag: tar.TypeSymlink, Name: "l"}), `entry "l"`},
		"device":         {file(tar.Header{Typeflag: tar.TypeChar, Name: "d", Devmajor: 4096}), `entry "d"`},
		"unknown type":   {file(tar.Header{Typeflag: 'Q', Name: "q"}), `entry "q"`},
		"dangling":       {file(tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "nowhere"}), "nowhere"},
		"file as parent": {tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "a"}, tar.Header{Typeflag: tar.TypeReg, Name: "a/b"}), "a/b"},
		"lost+found":     {file(tar.Header{Typeflag: tar.TypeReg, Name: "lost+found"}), "lost+found"},
		"large xattr":    {file(tar.Header{Typeflag: tar.TypeReg, Name: "x", PAXRecords: map[string]string{xattrRecord + "user.x": strings.Repeat("x", 5000)}}), "user.x"},
		"xattr's name":   {file(tar.Header{Typeflag: tar.TypeReg, Name: "x", PAXRecords: map[string]string{xattrRecord + "user." + long: ""}}), `entry "x"`},
		"acl":            {file(tar.Header{Typeflag: tar.TypeReg, Name: "x", PAXRecords: map[string]string{xattrRecord + "system.posix_acl_access": "1234567"}}), "ACL"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := BuildBase(t.Context(), filepath.Join(dir, "base"), bytes.NewReader(c.tarball), BaseOptions{})
			if err == nil || wire.CodeOf(err) != wire.Invalid || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an invalid one that says %q", err, c.says)
			}
			only(t, dir)
		})
	}
}

func TestBaseDropsForeignXattrs(t *testing.T) {
	records := map[string]string{}
	for _, name := range []string{"system.nfs4_acl", "btrfs.compression", "trusted.overlay.redirect", "user.overlay.opaque", "user.", "user"} {
		records[xattrRecord+name] = "v"
	}
	h, err := header(&tar.Header{Typeflag: tar.TypeReg, PAXRecords: records})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h.PAXRecords, map[string]string(nil)); diff != "" {
		t.Error(diff)
	}
}

func TestBaseSourceFails(t *testing.T) {
	whole := tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1 << 20})
	cause := wire.Errorf(wire.Unavailable, "the registry is gone").WithHint("try again")
	dir := t.TempDir()
	err := BuildBase(t.Context(), filepath.Join(dir, "base"), io.MultiReader(bytes.NewReader(whole[:300000]), failing{cause}), BaseOptions{})
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.Unavailable || e.Hint != "try again" || !strings.Contains(err.Error(), "registry is gone") || strings.Contains(err.Error(), dir) {
		t.Errorf("got %#v", err)
	}
	only(t, dir)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestBaseCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	endlessTar := io.MultiReader(bytes.NewReader(tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 100})), stopper{cancel})
	err := BuildBase(ctx, filepath.Join(dir, "base"), endlessTar, BaseOptions{})
	if err != nil { // the tar's end is reached before the stopper
		t.Fatal(err)
	}
	r := io.MultiReader(bytes.NewReader(tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 5 << 20})[:1<<20]), stopper{cancel})
	if err = BuildBase(ctx, filepath.Join(dir, "other"), r, BaseOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	only(t, dir, "base")
}

// stopper ends the context when it is read from.
type stopper struct{ cancel func() }

func (s stopper) Read(p []byte) (int, error) { s.cancel(); clear(p); return len(p), nil }

func TestBaseProgress(t *testing.T) {
	tarball := tarOf(t, edges()...)
	var last, calls int64
	o := BaseOptions{Total: int64(len(tarball)), Progress: func(what string, done, total int64) {
		if done < last || total != int64(len(tarball)) || what == "" {
			t.Errorf("%s %d/%d after %d", what, done, total, last)
		}
		last = done
		calls++
	}}
	if err := BuildBase(t.Context(), filepath.Join(t.TempDir(), "base"), bytes.NewReader(tarball), o); err != nil {
		t.Fatal(err)
	}
	if last != int64(len(tarball)) {
		t.Errorf("%d of %d bytes told, in %d calls", last, len(tarball), calls)
	}
}

func TestBaseNoDirectory(t *testing.T) {
	err := BuildBase(t.Context(), filepath.Join(t.TempDir(), "no", "base"), bytes.NewReader(nil), BaseOptions{})
	if wire.CodeOf(err) != wire.NotFound {
		t.Errorf("got %v", err)
	}
}

func TestBaseOnFullDisk(t *testing.T) {
	dir := tmpfs(t, "2m")
	err := BuildBase(t.Context(), filepath.Join(dir, "base"), bytes.NewReader(tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 8 << 20})), BaseOptions{})
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.Exhausted || e.Hint == "" || !strings.Contains(e.Message, "MiB free") || strings.Contains(e.Message, "/.tmp-") {
		t.Errorf("got %v", err)
	}
	only(t, dir)
}
