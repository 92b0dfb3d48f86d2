package wire

import "time"

// The operations on files other than reading and writing them.
const (
	OpFind   Op = "find"   // list a directory, or all below it: Records
	OpSearch Op = "search" // lines of files: Records
	OpLines  Op = "lines"  // the lines of one file: Records, then Done with how many it has
	OpWatch  Op = "watch"  // changes: Stat when the watch is on, then Records

	OpMkdir   Op = "mkdir"
	OpRename  Op = "rename"
	OpRemove  Op = "remove"
	OpChmod   Op = "chmod"
	OpChown   Op = "chown"
	OpSymlink Op = "symlink"
	OpReplace Op = "replace" // text in a file; Done with how often
)

// FindRequest asks for the Stat of Path, and of what is below it if it is a
// directory or a symlink to one. No symlink is followed but that.
type FindRequest struct {
	Path       Text   `json:"path"`
	Depth      int    `json:"depth,omitempty"` // 1: only what is in Path itself; 0: all
	SkipHidden bool   `json:"skip_hidden,omitempty"`
	Include    []Text `json:"include,omitempty"` // glob patterns: only files that one of them matches
	Exclude    []Text `json:"exclude,omitempty"` // glob patterns: not these, nor what is in them
	Type       string `json:"type,omitempty"`    // as in Stat: only these
	// Glob makes Include a shell's pattern: hidden names are matched only where
	// it has the dot, and Path itself isn't listed.
	Glob bool `json:"glob,omitempty"`
}

// SearchRequest asks for the lines with Text in the files that Find finds.
// Files that are not text are passed over, and so are /proc, /sys and /dev below
// Find.Path.
type SearchRequest struct {
	Find   FindRequest `json:"find"`
	Text   Text        `json:"text,omitempty"` // without a newline; empty: every line
	Fold   bool        `json:"fold,omitempty"` // ASCII letters of Text match either case
	Before int         `json:"before,omitempty"`
	After  int         `json:"after,omitempty"`
}

// LinesRequest asks for Limit lines of a file after the first Offset.
type LinesRequest struct {
	Path   Text  `json:"path"`
	Offset int64 `json:"offset,omitempty"`
	Limit  int64 `json:"limit,omitempty"` // 0: to the end
}

// WatchRequest asks for what changes in a directory, or of a file.
type WatchRequest struct {
	Path      Text `json:"path"`
	Recursive bool `json:"recursive,omitempty"` // directories below too, those that are made later included
}

// ChangeRequest is of OpMkdir, OpRename, OpRemove, OpChmod, OpChown, OpSymlink
// and OpReplace.
type ChangeRequest struct {
	Path      Text   `json:"path"`
	To        Text   `json:"to,omitempty"`        // rename: the new path; symlink: what it leads to
	Mode      uint32 `json:"mode,omitempty"`      // chmod; mkdir: 0 is 0755
	Owner     string `json:"owner,omitempty"`     // chown, mkdir: name, uid, name:group, :group, name:
	Parents   bool   `json:"parents,omitempty"`   // mkdir: those that lack too, and no error if Path is there
	Overwrite bool   `json:"overwrite,omitempty"` // rename
	Recursive bool   `json:"recursive,omitempty"` // remove, chmod, chown
	NoFollow  bool   `json:"no_follow,omitempty"` // chown: a symlink itself
	Old       Text   `json:"old,omitempty"`       // replace: this
	New       Text   `json:"new,omitempty"`       // by that
	Limit     int64  `json:"limit,omitempty"`     // replace: so often, from the start; 0: wherever it is
	Expect    int64  `json:"expect,omitempty"`    // replace: refuse unless it is there so often; 0: at least once
}

// MaxLine is how much of a line is carried; MaxContext how much of one around
// a match, MaxAround how many those may be on either side.
const (
	MaxLine    = 16 << 10
	MaxContext = 4 << 10
	MaxAround  = 100
)

// Line is one line of a file, without its newline.
type Line struct {
	Number int64  `json:"number"` // the first is 1
	Text   string `json:"text"`
	Cut    bool   `json:"cut,omitempty"` // it was longer than 16 KiB
}

// Match is one line that a search found. Of a line longer than 16 KiB Text is
// the part around the match, and begins at byte Start.
type Match struct {
	Path   string   `json:"path"`
	Line   int64    `json:"line"` // the first is 1
	Text   string   `json:"text"` // without the newline
	Cut    bool     `json:"cut,omitempty"`
	Start  int64    `json:"start,omitempty"`
	Before []string `json:"before,omitempty"` // the lines before it, if asked for
	After  []string `json:"after,omitempty"`
}

// FileOp is what happened to a file.
type FileOp string

// The FileOps.
const (
	FileCreated  FileOp = "created"
	FileModified FileOp = "modified" // its content
	FileRemoved  FileOp = "removed"  // or moved to where nobody watches
	FileRenamed  FileOp = "renamed"  // from From to Path
	FileAttrib   FileOp = "attrib"   // mode, owner, times, links
	FileOverflow FileOp = "overflow" // more happened than could be told: Path is the one watched
)

// FileEvent is a change that a watch saw.
type FileEvent struct {
	Path string    `json:"path"`
	From string    `json:"from,omitempty"` // of FileRenamed: its old path
	Op   FileOp    `json:"op"`
	Dir  bool      `json:"dir,omitempty"` // it is a directory
	Time time.Time `json:"time"`
}
