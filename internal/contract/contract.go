// Package contract is what the library and the client of a server promise
// alike: one suite of scenarios, run on both, so that a program may change from
// one to the other. Only tests import it.
package contract

import (
	"context"
	"errors"
	"io"
	"iter"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// House is a manager, near or far.
type House interface {
	Create(ctx context.Context, o bandsox.CreateOptions) (Box, error)
	Get(ctx context.Context, ref string) (Box, error)
	List(ctx context.Context, o bandsox.ListOptions) ([]bandsox.Info, error)
	Events(ctx context.Context, after int64) iter.Seq2[bandsox.Event, error]
	PastEvents(ctx context.Context, after int64) iter.Seq2[bandsox.Event, error]
	Pull(ctx context.Context, ref string) (bandsox.Image, error)
	Load(ctx context.Context, ref string, r io.Reader) (bandsox.Image, error)
	Image(ctx context.Context, ref string) (bandsox.Image, error)
	Images(ctx context.Context) ([]bandsox.Image, error)
	RemoveImage(ctx context.Context, ref string) error
	PruneImages(ctx context.Context, all bool) ([]bandsox.Image, error)
	Usage(ctx context.Context) (bandsox.DiskUsage, error)
	Cleanup(ctx context.Context, dryRun bool) ([]bandsox.Leftover, error)
	Snapshots(ctx context.Context, o bandsox.SnapshotListOptions) ([]bandsox.SnapshotInfo, error)
	SnapshotOf(ctx context.Context, ref string) (Shot, error)
}

// Box is a sandbox of a house.
type Box interface {
	ID() string
	Info(ctx context.Context) (bandsox.Info, error)
	Start(ctx context.Context) error
	Stop(ctx context.Context, grace time.Duration) error
	Restart(ctx context.Context, grace time.Duration) error
	Kill(ctx context.Context) error
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	Delete(ctx context.Context) error
	Update(ctx context.Context, u bandsox.Update) error
	Stats(ctx context.Context) (bandsox.Stats, error)
	Wait(ctx context.Context, state bandsox.State) error
	Console(ctx context.Context) (io.ReadCloser, error)
	Snapshot(ctx context.Context, o bandsox.SnapshotOptions) (Shot, error)
	Fork(ctx context.Context, n int, o bandsox.ForkOptions) ([]Box, error)
	Files
	Programs
}

// Shot is a snapshot of a house.
type Shot interface {
	ID() string
	Info(ctx context.Context) (bandsox.SnapshotInfo, error)
	Update(ctx context.Context, u bandsox.SnapshotUpdate) error
	Delete(ctx context.Context) error
	Restore(ctx context.Context, o bandsox.RestoreOptions) (Box, error)
}

// Run runs every scenario on houses that open makes.
func Run(t *testing.T, open func(t *testing.T) House) {
	for name, scenario := range map[string]func(*testing.T, House){
		"Life": life, "Names": names, "Lists": lists, "Refusals": refusals, "Updates": updates, "Waits": waits,
		"FilesRead": filesRead, "FilesWrite": filesWrite, "FilesTransfer": filesTransfer, "FilesTrees": filesTrees,
		"FilesNames": filesNames, "FilesLook": filesLook, "FilesChange": filesChange,
		"Exec": execs, "ExecEnds": execEnds, "ExecBytes": execBytes, "ExecCancels": execCancels, "Runs": runs,
		"Processes": processes, "Viewers": viewers, "Attaches": attaches, "Python": pythons,
		"Events": events, "Images": images, "Cleanup": cleanup,
		"Snapshots": snapshots, "Forks": forks,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each has a house of its own
			scenario(t, open(t))
		})
	}
}

// box makes a sandbox, which is deleted when the test ends.
func box(t *testing.T, h House, o bandsox.CreateOptions) Box {
	t.Helper()
	if o.Image == "" {
		o.Image = vmtest.Image(t)
	}
	b, err := h.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Delete(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return b
}

// is fails the test unless err is of the class, and an *Error that says
// something.
func is(t *testing.T, what string, err, class error) {
	t.Helper()
	var e *bandsox.Error
	if !errors.Is(err, class) || !errors.As(err, &e) || e.Error() == "" {
		t.Errorf("%s: got %#v, want one that is %v", what, err, class)
	}
}

func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// inState fails the test unless the sandbox is in the state.
func inState(t *testing.T, b Box, want bandsox.State) {
	t.Helper()
	info, err := b.Info(t.Context())
	if err != nil || info.Status != want {
		t.Errorf("it is %s (%v), not %s", info.Status, err, want)
	}
}
