package wire

import "time"

// Version of the protocol. A host refuses an agent of another version.
const Version = 2

// Kind tells apart the messages on one stream.
type Kind byte

const (
	KindData    Kind = 0 // stdin, stdout, the bytes of a file
	KindStderr  Kind = 1 // standard error
	KindControl Kind = 2 // one JSON object: a Control
)

// Op names what a stream was opened for.
type Op string

const (
	OpStart     Op = "start"      // start a process and attach to it
	OpAttach    Op = "attach"     // attach to a process that runs or has ended
	OpProcesses Op = "processes"  // list processes
	OpFollow    Op = "follow"     // list processes, then tell of each that ends
	OpWait      Op = "wait"       // wait for a process's end
	OpInput     Op = "input"      // write to a process's input without attaching to it
	OpResize    Op = "resize"     // size its terminal without attaching to it
	OpSignal    Op = "signal"     // signal a process without attaching to it
	OpIdentity  Op = "identity"   // become this sandbox: after a boot, after a restore
	OpFreeze    Op = "freeze"     // stop all processes until OpIdentity, to be saved
	OpStats     Op = "stats"      // live figures
	OpRead      Op = "read"       // read a file
	OpWrite     Op = "write"      // write a file atomically
	OpStat      Op = "stat"       // one file's Stat
	OpTreeRead  Op = "tree-read"  // read a tree of files
	OpTreeWrite Op = "tree-write" // write one
	OpShutdown  Op = "shutdown"   // sync, SIGTERM to all, grace, SIGKILL, sync, power off
)

// Request is the JSON payload that opens a stream. Op says which of the other
// fields is set.
type Request struct {
	Op       Op               `json:"op"`
	Start    *StartRequest    `json:"start,omitempty"`
	Attach   *AttachRequest   `json:"attach,omitempty"`
	Signal   *SignalRequest   `json:"signal,omitempty"`
	Process  *ProcessRequest  `json:"process,omitempty"` // of OpWait, OpInput and OpResize
	Identity *Identity        `json:"identity,omitempty"`
	Freeze   *FreezeRequest   `json:"freeze,omitempty"`
	Grow     *GrowRequest     `json:"grow,omitempty"`
	Read     *ReadRequest     `json:"read,omitempty"`
	Write    *WriteRequest    `json:"write,omitempty"`
	Stat     *StatRequest     `json:"stat,omitempty"`
	Find     *FindRequest     `json:"find,omitempty"`
	Search   *SearchRequest   `json:"search,omitempty"`
	Lines    *LinesRequest    `json:"lines,omitempty"`
	Watch    *WatchRequest    `json:"watch,omitempty"`
	Change   *ChangeRequest   `json:"change,omitempty"` // of OpMkdir and the like
	Tree     *TreeRequest     `json:"tree,omitempty"`   // of OpTreeRead and OpTreeWrite
	Dial     *DialRequest     `json:"dial,omitempty"`
	Shutdown *ShutdownRequest `json:"shutdown,omitempty"`
}

// Control is a KindControl message on an open stream. Exactly one field is set.
//
// A stream of OpStart or OpAttach carries, guest to host: Started, then output
// as KindData and KindStderr, then Exit, then end of stream. Host to guest:
// KindData is stdin, end of stream closes stdin, Signal and Resize at any time.
// OpRead: Stat, KindData, Done. OpWrite: host sends KindData then end of
// stream; guest answers Done. With Partial the guest says first, by a Stat, how
// much it has. OpTreeRead: Stat, KindData that a TreeReader unpacks, Done.
// OpTreeWrite: host sends KindData of a TreeWriter then end of stream; guest
// answers Done. OpFind, OpSearch and OpLines: KindData that are Records, then
// Done; OpWatch: the same after a Stat. OpProcesses: Processes, some at a time, then
// Done; OpFollow: the same, then Processes that have ended, until the host
// resets the stream. OpInput: host sends KindData then end of stream; guest answers Done when
// the process has them, or will as soon as it reads. OpWait: Exit. OpStats,
// OpStat, OpSignal, OpIdentity, OpFreeze, OpResize and OpShutdown are answered with one
// Control. Anything may be answered with Error instead, which is then the last
// message. A stream that ends without Exit, Done, Error or its one answer broke:
// it never means success.
type Control struct {
	Started   *Started       `json:"started,omitempty"`
	Exit      *Exit          `json:"exit,omitempty"`
	Signal    *SignalRequest `json:"signal,omitempty"` // Process is ignored here
	Resize    *Size          `json:"resize,omitempty"`
	Processes *ProcessList   `json:"processes,omitempty"`
	Stats     *Stats         `json:"stats,omitempty"`
	Stat      *Stat          `json:"stat,omitempty"`
	Done      *Done          `json:"done,omitempty"`
	Error     *Error         `json:"error,omitempty"`
}

// Hello is what the host says first, and HelloReply the agent's answer: they
// are carried in the handshake, before any stream.
type Hello struct {
	Version int       `json:"version"`
	Time    time.Time `json:"time"`              // the host's clock: the guest's is set to it
	Entropy []byte    `json:"entropy,omitempty"` // 64 bytes, credited to the guest's generator
}

type HelloReply struct {
	Version int       `json:"version"`
	Agent   string    `json:"agent"`  // agent build version
	Kernel  string    `json:"kernel"` // uname release
	BootID  string    `json:"boot_id"`
	Time    time.Time `json:"time"`            // the guest's clock before it was set
	Error   *Error    `json:"error,omitempty"` // the guest came up but can't work: no base, no disk…
}

// Identity makes a guest this sandbox. It is applied after a boot and after a
// restore by the same code, and may be applied again at any time. Empty fields
// leave what is there. Processes that OpFreeze stopped go on after it.
type Identity struct {
	Hostname  string            `json:"hostname,omitempty"`
	MachineID string            `json:"machine_id,omitempty"` // 32 hex digits
	Hosts     map[string]string `json:"hosts,omitempty"`      // name to address, added to /etc/hosts
	Restored  bool              `json:"restored,omitempty"`   // it goes on where another was
	DNS       []string          `json:"dns,omitempty"`        // nameserver addresses; empty leaves resolv.conf, or makes an empty one
}

// FreezeRequest stops all processes until an Identity comes, so that none runs in
// a guest that does not know yet who it is. They go on by themselves after 10 s,
// by the guest's clock.
type FreezeRequest struct {
	Sync bool `json:"sync,omitempty"` // write what files hold out to the disk first
}

// Size of a terminal, in characters.
type Size struct {
	Cols uint16 `json:"cols" maximum:"65535"`
	Rows uint16 `json:"rows" maximum:"65535"`
}

// StartRequest starts one process. Either Argv or Shell is set: Shell is run
// as `/bin/sh -c Shell`.
type StartRequest struct {
	ID      string        `json:"id,omitempty"` // chosen by the host; empty: the agent picks one
	Argv    []string      `json:"argv,omitempty"`
	Shell   string        `json:"shell,omitempty"`
	Env     []string      `json:"env,omitempty"`        // KEY=value, the last of a key, over PATH, HOME and HOSTNAME
	Dir     string        `json:"dir,omitempty"`        // default /
	NeedDir bool          `json:"need_dir,omitempty"`   // Dir must be there; else it is made, as docker does for an image's
	User    string        `json:"user,omitempty"`       // name, uid, name:group, uid:gid; default 0:0
	TTY     *Size         `json:"tty,omitempty"`        // run on a terminal of this size
	Stdin   bool          `json:"stdin,omitempty"`      // false: stdin is /dev/null
	Timeout time.Duration `json:"timeout_ns,omitempty"` // then the whole group is killed and Exit.Timeout set
	// KillOnDetach kills the process group when the stream that started it
	// breaks or is reset. False: the process goes on and can be attached to.
	KillOnDetach bool `json:"kill_on_detach,omitempty"`
	// Linger, with TTY: once nobody has been attached for this long, and up to
	// twice that, the terminal is hung up, unless it is a job that has it and not
	// the program itself. 0: never.
	Linger time.Duration `json:"linger_ns,omitempty"`
}

// AttachRequest joins a process's output at Offset (bytes of stdout and stderr
// together, in the order they were read; negative: counted from the end). An
// offset older than what is kept starts at the oldest byte kept, one beyond the
// end there; Started.Offset tells.
type AttachRequest struct {
	Process string `json:"process"`
	Offset  int64  `json:"offset"`
}

type SignalRequest struct {
	Process string `json:"process,omitempty"`
	Signal  int    `json:"signal"`
	// Group false: to the process's group (its terminal's foreground group when
	// it has one); true: to everything it started, in whatever group or session.
	All bool `json:"all,omitempty"`
}

// ProcessRequest is about the process with this id.
type ProcessRequest struct {
	Process string `json:"process"`
	Size    Size   `json:"size,omitzero"`   // OpResize
	Close   bool   `json:"close,omitempty"` // OpInput: what is sent is the last
}

type Started struct {
	Process string `json:"process"`
	PID     int    `json:"pid"`
	Offset  int64  `json:"offset"`
}

// Exit is how a process ended. Signal is 0 unless a signal ended it, and Code
// is then 128+Signal, as a shell has it.
type Exit struct {
	Code      int   `json:"code"`
	Signal    int   `json:"signal,omitempty"`
	Timeout   bool  `json:"timeout,omitempty"`
	OOM       bool  `json:"oom,omitempty"` // killed for want of memory
	UserNS    int64 `json:"user_ns,omitempty"`
	SystemNS  int64 `json:"system_ns,omitempty"`
	MaxRSSKiB int64 `json:"max_rss_kib,omitempty"`
}

// Process is what is known of a process that was started in the guest. What
// ended long ago is forgotten, the oldest first.
type Process struct {
	ID      string    `json:"id"`
	PID     int       `json:"pid"`
	Argv    []string  `json:"argv"` // cut short after 4 KiB
	Dir     string    `json:"dir"`
	User    string    `json:"user,omitempty"`
	TTY     bool      `json:"tty,omitempty"`
	Stdin   bool      `json:"stdin,omitempty"` // it has an input that can be written to
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"` // by the guest's clock, as Started is
	Output  int64     `json:"output"`         // bytes so far: the offset of the next one
	Oldest  int64     `json:"oldest"`         // offset of the oldest byte still kept
	Viewers int       `json:"viewers"`        // attached now
	Exit    *Exit     `json:"exit,omitempty"` // nil while it runs
}

type ProcessList struct {
	Processes []Process `json:"processes"`
}

type Stats struct {
	UptimeSeconds float64 `json:"uptime_seconds"`
	MemTotal      int64   `json:"mem_total"` // bytes, as are the rest
	MemAvailable  int64   `json:"mem_available"`
	MemCached     int64   `json:"mem_cached"` // of it, what only repeats files
	DiskTotal     int64   `json:"disk_total"`
	DiskFree      int64   `json:"disk_free"`
	CPUSeconds    float64 `json:"cpu_seconds"`
	LoadAverage   float64 `json:"load_average"`
	AgentRSS      int64   `json:"agent_rss"`
	Processes     int     `json:"processes"` // the agent's own list, running
	Tasks         int     `json:"tasks"`     // all that these have started, threads too; 0: unknown
}

// OpGrow makes the disk's file system as large as its device.
const OpGrow Op = "grow"

// GrowRequest waits until the disk's device has Bytes, and grows the file system
// to it. Done says how many the device has.
type GrowRequest struct {
	Bytes int64 `json:"bytes"`
}

type ReadRequest struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset,omitempty"`
	Length int64  `json:"length,omitempty"` // 0: to the end
}

// WriteRequest replaces Path by what the stream carries: written beside it,
// flushed and renamed over it, so that a broken stream changes nothing.
type WriteRequest struct {
	Path    string `json:"path"`
	Mode    uint32 `json:"mode,omitempty"` // permission bits; 0: 0644, or what the file had
	User    string `json:"user,omitempty"` // owner, as in StartRequest; empty: root, or what the file had
	Parents bool   `json:"parents,omitempty"`
	Append  bool   `json:"append,omitempty"` // add to the end instead; then not atomic
	New     bool   `json:"new,omitempty"`    // a file that is there already is a conflict, and stays; not with Append
	// Partial names what is being sent, in up to 64 letters and digits. What has
	// come of it when the stream breaks is kept beside Path for a day, and the
	// next request with the same Partial goes on behind it.
	Partial string `json:"partial,omitempty"`
}

// TreeRequest is for a tree of files below Path. One that is read may be a
// single file. One that is written is a directory, made if it isn't there;
// nothing is written outside of it, whatever names and symlinks say.
type TreeRequest struct {
	Path   string `json:"path"`
	Follow bool   `json:"follow,omitempty"` // read: if Path is a symlink, what it leads to
	User   string `json:"user,omitempty"`   // write: owner of all of it, as in StartRequest; empty: as each entry says
}

type StatRequest struct {
	Path string `json:"path"`
}

type Stat struct {
	Path   string    `json:"path"`
	Type   string    `json:"type"` // file, dir, symlink, char, block, fifo, socket
	Size   int64     `json:"size"`
	Mode   uint32    `json:"mode"` // permission bits with setuid, setgid, sticky as in chmod: 04755
	UID    uint32    `json:"uid"`
	GID    uint32    `json:"gid"`
	Mtime  time.Time `json:"mtime"`
	Target string    `json:"target,omitempty"` // of a symlink
	Inode  uint64    `json:"inode,omitempty"`  // tells a file from one that took its name
}

type ShutdownRequest struct {
	Grace time.Duration `json:"grace_ns"` // between SIGTERM and SIGKILL; 0: none
}

// Done says that all of it was done: Bytes carried.
type Done struct {
	Bytes int64 `json:"bytes,omitempty"`
}
