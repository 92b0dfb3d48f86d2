package disk

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// tarOf writes headers with contents of their size.
func tarOf(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%.80q: %v", h.Name, err)
		}
		if h.Typeflag == tar.TypeReg || h.Typeflag == 0 {
			if _, err := w.Write(contents(h.Name, int(h.Size))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// contents is what the file of a name holds: text that says where it is, or
// zeros for a name that begins with "zero".
func contents(name string, size int) []byte {
	if strings.HasPrefix(name, "zero") {
		return make([]byte, size)
	}
	line := []byte(name + "\n")
	return bytes.Repeat(line, size/len(line)+1)[:size]
}

// edges are the things that writers of file systems get wrong.
func edges() []tar.Header {
	now := time.Unix(1700000000, 123456789)
	e := []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o751, Uid: 3, Gid: 4, ModTime: now},
		{Typeflag: tar.TypeDir, Name: "xattr/", Mode: 0o1777, ModTime: now},
		{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o6755, Uid: 1000000, Gid: 4294967294, Size: 5, ModTime: now},
		{Typeflag: tar.TypeReg, Name: "empty", Mode: 0o400, ModTime: now},
		{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600, Uid: 7, ModTime: now},
		{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: now},
		{Typeflag: tar.TypeChar, Name: "big", Mode: 0o666, Devmajor: 4095, Devminor: 1048575, ModTime: now},
		{Typeflag: tar.TypeBlock, Name: "sda300", Mode: 0o660, Devmajor: 259, Devminor: 300, ModTime: now},
		{Typeflag: tar.TypeReg, Name: "zero-hole", Mode: 0o644, Size: 3<<20 + 7, ModTime: now},
		{Typeflag: tar.TypeReg, Name: "Gr\xfc\xdfe", Mode: 0o644, Size: 9, ModTime: now},
		{Typeflag: tar.TypeReg, Name: "new\nline \\ \"", Mode: 0o644, Size: 9, ModTime: now},
		{Typeflag: tar.TypeDir, Name: "many/", Mode: 0o755, ModTime: now},
	}
	for i, sec := range []int64{-1<<31 + 1, -1, 0, 1, 1<<31 - 1, 1 << 31, 4000000000, 1<<32 - 1, 1 << 32, 1<<33 + 5, 10737418238} {
		e = append(e, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("time-%d", i), Mode: 0o644, ModTime: time.Unix(sec, 999999999)})
	}
	for _, n := range []int{1, 58, 59, 60, 61, 100, 255, 1200, 4095} {
		target := strings.Repeat("x/", n/2) + strings.Repeat("y", n%2)
		e = append(e, tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprintf("link-%d", n), Linkname: target, Mode: 0o777, ModTime: now})
	}
	for i, size := range []int{1, 511, 512, 513, 4095, 4096, 4097, 65536, 1 << 20} {
		e = append(e, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("size-%d", i), Mode: 0o644, Size: int64(size), ModTime: now})
	}
	deep := ""
	for i := range 12 {
		deep += strings.Repeat(string(rune('a'+i)), 255) + "/"
		e = append(e, tar.Header{Typeflag: tar.TypeDir, Name: deep, Mode: 0o755, ModTime: now})
	}
	many := 8000
	if testing.Short() {
		many = 100
	}
	for i := range many {
		e = append(e, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("many/a-longer-name-%05d", i), Mode: 0o644, Size: int64(i % 3), ModTime: now})
	}
	e = append(e, attributes(now)...)
	return append(e,
		tar.Header{Typeflag: tar.TypeLink, Name: "xattr/again", Linkname: "suid"},
		tar.Header{Typeflag: tar.TypeLink, Name: "fifo2", Linkname: "fifo"},
		tar.Header{Typeflag: tar.TypeLink, Name: "link2", Linkname: "link-60"},
	)
}

// attributes come in one, two and many, inside the inode and outside, and in
// orders in which hcsshim's sorting fails.
func attributes(now time.Time) []tar.Header {
	sets := []map[string]string{
		{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"user.three-kilobytes": strings.Repeat("v", 3000), "trusted.x": "\x00\x01"},
		{"user.a-name-of-some-length": strings.Repeat("1", 90), "trusted.z": strings.Repeat("2", 90), "trusted.yy": strings.Repeat("3", 90), "security.q": strings.Repeat("4", 90)},
		{"system.posix_acl_access": "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" +
			"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x06\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"},
	}
	many := make(map[string]string)
	for i := range 40 {
		many[fmt.Sprintf("user.%0*d", 1+(i*7)%30, i)] = strings.Repeat("m", i)
		many[fmt.Sprintf("trusted.%0*d", 1+(i*11)%20, i)] = ""
	}
	sets = append(sets, many)
	var e []tar.Header
	for i, set := range sets {
		records := make(map[string]string)
		for k, v := range set {
			records[xattrRecord+k] = v
		}
		e = append(e, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("xattr/%d", i), Mode: 0o664, Size: 3, ModTime: now, PAXRecords: records})
	}
	return e
}
