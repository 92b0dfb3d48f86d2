// Package vm is what the rest of BandSox knows of a virtual machine monitor: a
// Driver boots a Spec and gives a Machine. Drivers live in their own packages;
// nothing above this one asks which driver it has.
package vm

import (
	"context"
	"io"
	"net"
	"time"
)

// Spec is one machine to boot.
type Spec struct {
	ID     string
	Dir    string // exists, owned by this machine: its sockets and logs go here and nowhere else
	VCPU   int
	MemMiB int
	Kernel string // uncompressed vmlinux
	Initrd string
	Append string // kernel command line words after the driver's own
	Drives []Drive
}

// SaveOptions say how to save a machine.
type SaveOptions struct {
	// Dir exists: the files go here, and are not flushed. For a machine that was
	// restored it holds a copy of the memory that that was done from, which
	// becomes this one's; for one that was booted it is empty.
	Dir string
	// Meanwhile is called at the instant that is saved, when nothing of the guest
	// runs: for what else belongs to it, its disks. It may be nil.
	Meanwhile func(ctx context.Context) error
}

// Drive is a virtio block device; the guest sees vda, vdb… in the order given.
type Drive struct {
	Path     string
	ReadOnly bool
}

// Begin calls Meanwhile, if there is one, beside what its caller does. The error
// comes when it has ended.
func (o SaveOptions) Begin(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	go func() {
		if o.Meanwhile == nil {
			ended <- nil
			return
		}
		ended <- o.Meanwhile(ctx)
	}()
	return ended
}

// Driver makes machines of one virtual machine monitor.
type Driver interface {
	// Name is what users type and see: "qemu", "firecracker".
	Name() string
	// Traits are what its machines have, and what is asked of a kernel for them.
	Traits() Traits
	// Version of the program that will run, or why none will: an error with a
	// hint that says what to install.
	Version(ctx context.Context) (string, error)
	// Boot starts a machine and returns when its program runs, not when the
	// guest is ready: Machine.Dial answers that. On error nothing is left.
	Boot(ctx context.Context, spec Spec) (Machine, error)
	// Saved is what a machine is that this driver would save here and now: what it
	// can restore.
	Saved(ctx context.Context) (Saved, error)
	// Restore starts a machine from what was saved in the directory from, whose
	// memory the new machine shares until it writes to it: the files must stay as
	// long as it runs. It returns when the guest goes on where it was. The spec is
	// that of the saved machine but for its ID, its Dir and the paths of its Drives;
	// Kernel, Initrd and Append are not looked at. What doesn't fit this driver,
	// its program or the processor is refused with a conflict that says what,
	// before anything starts.
	Restore(ctx context.Context, spec Spec, from string, saved Saved) (Machine, error)
	// Adopt takes over a machine that an earlier manager left running. It
	// returns an error of code not_found when that machine is gone.
	Adopt(ctx context.Context, h Handle) (Machine, error)
	// Find returns the machines of this driver that run now and whose Spec.Dir
	// is dir or lies under it, whoever started them: what a manager that was
	// killed before it could write their handles down has left.
	Find(ctx context.Context, dir string) ([]Handle, error)
}

// Traits are what sets the machines of one driver apart from another's.
type Traits struct {
	Modules []string // of the kernel, that its devices need, as lsmod has them; nil: package kernel's MicroVM
	Discard bool     // what a guest frees on a drive is freed on the host
	OnlyKVM bool     // it runs guests in no other way
	// SlowConsole: what a guest prints leaves it byte by byte.
	SlowConsole bool
	Halts       bool // a full disk of the host stops the guest, see Machine.Halted; else it gets an error
}

// Handle is all that must be remembered to find a machine again. It is kept in
// the sandbox's record.
type Handle struct {
	Driver    string        `json:"driver"`
	Version   string        `json:"version"`
	Accel     string        `json:"accel"` // "kvm" or "tcg"
	ID        string        `json:"id"`
	Dir       string        `json:"dir"`
	PID       int           `json:"pid"`
	StartTime uint64        `json:"start_time"`       // field 22 of /proc/PID/stat: with PID, who it is
	Boot      time.Duration `json:"boot_ns"`          // what starting the program took
	Memory    string        `json:"memory,omitempty"` // the saved memory that it was restored from
}

// Machine is one running machine. All methods may be called by many at once.
type Machine interface {
	Handle() Handle
	// Dial connects to the agent's byte stream: it waits until the guest can be
	// reached, ctx ends or the machine dies. One connection at a time.
	Dial(ctx context.Context) (net.Conn, error)
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	// Save writes down what the machine is at one instant. It stops for what it has
	// written to its memory since its own restore, not for all of its memory, and
	// then goes on if it did before. What is connected to the agent stays so, or
	// must dial again, as the driver has it. On error the files are worth nothing.
	Save(ctx context.Context, o SaveOptions) (Saved, error)
	// ResizeDrive tells the guest that the file of this drive, by its place in
	// Spec.Drives, has grown to size bytes.
	ResizeDrive(ctx context.Context, drive int, size int64) error
	// Halted receives the reason each time the machine stops by itself because
	// the host can't go on: its disk is full, say. Nothing is lost: once there
	// is room, Resume lets the machine go on. It may be nil: that never happens.
	Halted() <-chan error
	// Waits says whether it is halted now: what Halted told may be over.
	Waits(ctx context.Context) (bool, error)
	// Console returns what the guest has printed, the newest part of it: bounded.
	Console(ctx context.Context) (io.ReadCloser, error)
	// Kill ends the machine at once and returns when its process is gone.
	// Killing a dead machine is no error.
	Kill() error
	// Done is closed when the machine's process is gone; Err then says why:
	// nil after a power-off by the guest.
	Done() <-chan struct{}
	Err() error
	// Release forgets the machine and leaves it running, for Adopt.
	Release() error
}
