package contract

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

func events(t *testing.T, h House) {
	ctx := t.Context()
	heard := make(chan bandsox.Event, 100)
	live, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for e, err := range h.Events(live, bandsox.EventsFromNow) {
			if err != nil {
				ended <- err
				return
			}
			heard <- e
		}
		ended <- nil
	}()
	// Whether the reader has begun can't be known: so things happen until it has.
	name, first := "", bandsox.Event{}
	b := box(t, h, bandsox.CreateOptions{Name: "ann"})
	for first.ID == 0 {
		select {
		case first = <-heard:
		case <-time.After(50 * time.Millisecond):
			name += "x"
			ok(t, "rename", b.Update(ctx, bandsox.Update{Name: &name}))
		}
	}
	ok(t, "pause", b.Pause(ctx))
	ok(t, "resume", b.Resume(ctx))
	ok(t, "delete", b.Delete(ctx))
	var kinds []string
	for e := range heard {
		if e.Sandbox != b.ID() {
			t.Errorf("an event of %q", e.Sandbox)
		}
		if kinds = append(kinds, e.Type); e.Type == bandsox.EventDeleted {
			break
		}
	}
	kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == bandsox.EventRenamed })
	want := []string{bandsox.EventPaused, bandsox.EventResumed, bandsox.EventDeleted}
	if len(kinds) < 3 || !slices.Equal(kinds[len(kinds)-3:], want) {
		t.Errorf("heard %v, want %v at the end", kinds, want)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the end: %v", err)
	}

	var past []bandsox.Event
	for e, err := range h.PastEvents(ctx, 0) {
		ok(t, "past events", err)
		past = append(past, e)
	}
	if len(past) < 5 || past[0].Type != bandsox.EventCreated || past[0].Details["image"] == "" || past[1].Type != bandsox.EventReady {
		t.Fatalf("the past: %+v", past)
	}
	for i, e := range past[1:] {
		if e.ID != past[i].ID+1 || e.Time.IsZero() {
			t.Errorf("%+v follows %d", e, past[i].ID)
		}
	}
	n := 0
	for e, err := range h.PastEvents(ctx, past[2].ID) {
		ok(t, "past events", err)
		if n == 0 && e.ID != past[3].ID {
			t.Errorf("after %d came %d", past[2].ID, e.ID)
		}
		n++
	}
	for _, err := range h.Events(ctx, past[len(past)-1].ID+1000) {
		is(t, "an id that was never given", err, bandsox.ErrInvalid)
	}
}

func images(t *testing.T, h House) {
	ctx := t.Context()
	ref := vmtest.Image(t)
	img, err := h.Pull(ctx, ref)
	ok(t, "pull", err)
	if !strings.HasPrefix(img.Digest, "sha256:") || img.BaseBytes == 0 {
		t.Errorf("got %+v", img)
	}
	list, err := h.Images(ctx)
	if err != nil || len(list) != 1 || list[0].Digest != img.Digest {
		t.Errorf("the list: %+v %v", list, err)
	}
	one, err := h.Image(ctx, img.Digest[:20])
	if err != nil || one.Digest != img.Digest {
		t.Errorf("by the beginning of its digest: %+v %v", one, err)
	}
	b := box(t, h, bandsox.CreateOptions{Image: img.Digest})
	is(t, "removing one in use", h.RemoveImage(ctx, img.Digest), bandsox.ErrConflict)
	one, err = h.Image(ctx, img.Digest)
	if err != nil || !slices.Equal(one.UsedBy, []string{b.ID()}) {
		t.Errorf("used by %v (%v), not %s", one.UsedBy, err, b.ID())
	}
	u, err := h.Usage(ctx)
	if err != nil || u.Images.Count != 1 || u.Images.Active != 1 || u.Images.Bytes != img.BaseBytes || len(u.Each) != 1 || u.Each[0].ID != b.ID() {
		t.Errorf("what it takes: %+v %v", u, err)
	}
	ok(t, "delete", b.Delete(ctx))
	ok(t, "remove", h.RemoveImage(ctx, img.Digest))
	_, err = h.Image(ctx, img.Digest)
	is(t, "an image that is removed", err, bandsox.ErrNotFound)
	is(t, "removing it again", h.RemoveImage(ctx, img.Digest), bandsox.ErrNotFound)

	_, err = h.Pull(ctx, "dir:/nothing/here")
	is(t, "an image that isn't there", err, bandsox.ErrNotFound)
	_, err = h.Pull(ctx, "UPPER CASE")
	is(t, "a name that is none", err, bandsox.ErrInvalid)
	for _, ref := range []string{"oci-archive:-", "docker-archive:-"} {
		_, err = h.Load(ctx, ref, strings.NewReader("this is no tar file"))
		is(t, "an archive that is none", err, bandsox.ErrInvalid)
	}
	_, err = h.Load(ctx, "dir:/", strings.NewReader(""))
	is(t, "an archive that is a directory", err, bandsox.ErrInvalid)

	_, err = h.Pull(ctx, ref)
	ok(t, "pull", err)
	gone, err := h.PruneImages(ctx, true)
	if err != nil || len(gone) != 1 {
		t.Errorf("pruned %+v %v", gone, err)
	}
}

func cleanup(t *testing.T, h House) {
	box(t, h, bandsox.CreateOptions{})
	found, err := h.Cleanup(t.Context(), true)
	if err != nil || len(found) != 0 {
		t.Errorf("left over beside a living sandbox: %+v %v", found, err)
	}
}
