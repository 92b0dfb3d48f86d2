package api

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/wire"
)

// Names and texts in these bodies may be any bytes: one that is not UTF-8 is
// the lone surrogate \udc80 to \udcff, as Python's surrogateescape has it. In
// queries it is %80 to %FF, as ever.

// FileList is what is in a directory.
type FileList struct {
	Path  wire.Text   `json:"path"`
	Files []FileEntry `json:"files"`
}

// FileEntry is one file of a list.
type FileEntry struct {
	Name   wire.Text `json:"name"`
	Path   wire.Text `json:"path"`
	Size   int64     `json:"size"`
	IsDir  bool      `json:"is_dir"`
	IsFile bool      `json:"is_file"`
	Mtime  int64     `json:"mtime" doc:"Seconds since 1970"`
	Type   string    `json:"type" doc:"file, dir, symlink, char, block, fifo or socket"`
	Mode   uint32    `json:"mode" doc:"Permission bits with setuid, setgid and sticky"`
	UID    uint32    `json:"uid"`
	GID    uint32    `json:"gid"`
	Target wire.Text `json:"target,omitempty" doc:"What a symlink leads to"`
}

// FileInfo is what is known of a file.
type FileInfo struct {
	Path wire.Text       `json:"path"`
	Info FileInfoDetails `json:"info"`
}

// FileInfoDetails are the parts of FileInfo.
type FileInfoDetails struct {
	Size  int64  `json:"size"`
	Mode  string `json:"mode" doc:"Type and permissions in octal: 100644, 40755"`
	Mtime int64  `json:"mtime" doc:"Seconds since 1970"`
	Type  string `json:"type"`
	UID   uint32 `json:"uid"`
	GID   uint32 `json:"gid"`
}

// WriteFile replaces a file by content, or adds that to its end.
type WriteFile struct {
	_        struct{}  `json:"-" additionalProperties:"true"`
	Path     wire.Text `json:"path"`
	Content  string    `json:"content"`
	Encoding string    `json:"encoding,omitempty" enum:"utf-8,base64" default:"utf-8"`
	Append   bool      `json:"append,omitempty"`
}

// Written says what a route that writes a file has done.
type Written struct {
	Status string    `json:"status" doc:"written, appended or uploaded"`
	Path   wire.Text `json:"path"`
	Bytes  int64     `json:"bytes" doc:"So many were written"`
}

// Sum is a file's checksum.
type Sum struct {
	SHA256 string `json:"sha256" doc:"In hex"`
}

// Partial asks how much of an upload has come.
type Partial struct {
	Path wire.Text `json:"path"`
	Key  string    `json:"key" doc:"What the upload's parameter partial is"`
}

// Offset is where an upload goes on.
type Offset struct {
	Offset int64 `json:"offset"`
}

// ChangeFile is what the routes that change files take: each what is its own.
type (
	// Mkdir makes a directory.
	Mkdir struct {
		Path    wire.Text `json:"path"`
		Parents bool      `json:"parents,omitempty" doc:"Make those that lead to it too; it may be there"`
		Mode    uint32    `json:"mode,omitempty" doc:"As a number: 493 is 0755, which it is if not given"`
		Owner   string    `json:"owner,omitempty" doc:"name, uid, name:group or :group; root if not given"`
	}
	// RenameFile moves a file.
	RenameFile struct {
		Path      wire.Text `json:"path"`
		To        wire.Text `json:"to"`
		Overwrite bool      `json:"overwrite,omitempty"`
	}
	// RemoveFile removes a file.
	RemoveFile struct {
		Path      wire.Text `json:"path"`
		Recursive bool      `json:"recursive,omitempty" doc:"A directory with all that is in it"`
	}
	// Chmod changes permissions.
	Chmod struct {
		Path      wire.Text `json:"path"`
		Mode      uint32    `json:"mode" doc:"As a number: 420 is 0644"`
		Recursive bool      `json:"recursive,omitempty"`
	}
	// Chown changes an owner.
	Chown struct {
		Path      wire.Text `json:"path"`
		Owner     string    `json:"owner" doc:"name, uid, name:group, :group, or name: with the user's own group"`
		Recursive bool      `json:"recursive,omitempty"`
		NoFollow  bool      `json:"no_follow,omitempty" doc:"A symbolic link itself"`
	}
	// Symlink makes a symbolic link.
	Symlink struct {
		Path   wire.Text `json:"path" doc:"Of the link"`
		Target wire.Text `json:"target" doc:"What it leads to"`
	}
	// Replace puts a text in the place of another.
	Replace struct {
		Path   wire.Text `json:"path"`
		Old    wire.Text `json:"old"`
		New    wire.Text `json:"new"`
		Limit  int64     `json:"limit,omitempty" doc:"So often, from the start; 0: wherever it is"`
		Expect int64     `json:"expect,omitempty" doc:"Change nothing unless it is there so often; 0: at least once"`
	}
	// Replaced says how often.
	Replaced struct {
		Status string `json:"status"`
		Count  int64  `json:"count"`
	}
)

// Search says what to look for, and where.
type Search struct {
	Path       wire.Text   `json:"path,omitempty" doc:"A directory or a file; / if not given"`
	Text       wire.Text   `json:"text,omitempty" doc:"Find lines with this in them"`
	Regexp     wire.Text   `json:"regexp,omitempty" doc:"Or lines that this matches"`
	IgnoreCase bool        `json:"ignore_case,omitempty"`
	MaxMatches int         `json:"max_matches,omitempty"`
	Before     int         `json:"before,omitempty" doc:"So many lines before each, up to 100"`
	After      int         `json:"after,omitempty"`
	Depth      int         `json:"depth,omitempty"`
	SkipHidden bool        `json:"skip_hidden,omitempty"`
	Include    []wire.Text `json:"include,omitempty"`
	Exclude    []wire.Text `json:"exclude,omitempty"`
}

// NewSearch is how a client asks for what o says.
func NewSearch(o bandsox.SearchOptions) Search {
	return Search{Path: wire.Text(o.Path), Text: wire.Text(o.Text), Regexp: wire.Text(o.Regexp), IgnoreCase: o.IgnoreCase, MaxMatches: o.MaxMatches,
		Before: o.Before, After: o.After, Depth: o.Depth, SkipHidden: o.SkipHidden, Include: Texts(o.Include), Exclude: Texts(o.Exclude)}
}

// Options are what the library is asked for.
func (s Search) Options() bandsox.SearchOptions {
	return bandsox.SearchOptions{Path: string(s.Path), Text: string(s.Text), Regexp: string(s.Regexp), IgnoreCase: s.IgnoreCase, MaxMatches: s.MaxMatches,
		Before: s.Before, After: s.After, Depth: s.Depth, SkipHidden: s.SkipHidden, Include: Strings(s.Include), Exclude: Strings(s.Exclude)}
}

// Texts are strings of any bytes, for JSON.
func Texts(list []string) []wire.Text {
	var t []wire.Text
	for _, s := range list {
		t = append(t, wire.Text(s))
	}
	return t
}

// Strings is the reverse of Texts.
func Strings(list []wire.Text) []string {
	var s []string
	for _, t := range list {
		s = append(s, string(t))
	}
	return s
}

// Failed is the line of a stream that is an error: with a path it is about that
// alone, else the last line.
type Failed struct {
	Path  wire.Text `json:"path,omitempty"`
	Error *Error    `json:"error"`
}

// The headers and trailers of files.
const (
	StatHeader   = "Bandsox-Stat"  // of the answer with a file: its Stat
	ErrorTrailer = "Bandsox-Error" // how a stream ended whose reader takes trailers: an Error
)

// HeaderJSON is v as a header's value: JSON of nothing but ASCII.
func HeaderJSON(v any) string {
	var b strings.Builder
	for _, r := range string(JSON(v)) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		}
	}
	return b.String()
}

// ReadHeader reads what HeaderJSON wrote.
func ReadHeader(value string, v any) error { return json.Unmarshal([]byte(value), v) }
