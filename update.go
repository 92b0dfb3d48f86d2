package bandsox

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

// Update says what to change of a sandbox; what is nil stays as it is.
type Update struct {
	Name *string // another name; "" takes it away. The hostname of a guest that runs follows, of another with its next start
	// Metadata is merged into what is there, as RFC 7386 has it: objects key by
	// key, a nil takes its key away, anything else replaces.
	Metadata        map[string]any
	ReplaceMetadata bool               // Metadata takes the place of what is there instead
	Labels          map[string]*string // merged: nil takes a label away
	Env             map[string]*string // merged: nil takes a variable away. Programs that are started from now on have it
	TTL             *time.Duration     // from now; 0: it lives for good
	IdleTimeout     *time.Duration     // counted anew from now; 0: it may be idle for ever
	IdleAction      *IdleAction
	// DiskSizeMiB grows the disk, at once if it runs, else with its next start.
	// The size it has already finishes a growth that was cut short.
	DiskSizeMiB *int
}

const (
	maxMetadataBytes = 64 << 10
	maxLabels        = 64
	maxLabelBytes    = 256
	maxEnvBytes      = 128 << 10
)

// Update changes the sandbox: all that is asked for, or on error nothing.
func (sb *Sandbox) Update(ctx context.Context, u Update) error {
	return sb.perform(ctx, opUpdate, func() error {
		next, err := u.apply(sb.known(), time.Now())
		if err != nil {
			return err
		}
		before := sb.known().DiskSizeMiB
		step("update")
		err = sb.wish(ctx, func(i *Info) {
			i.Name, i.Metadata, i.Labels, i.Env = next.Name, next.Metadata, next.Labels, next.Env
			i.DiskSizeMiB = next.DiskSizeMiB
			i.ExpiresAt, i.IdleTimeout, i.IdleAction, i.LastUsed = next.ExpiresAt, next.IdleTimeout, next.IdleAction, next.LastUsed
		})
		if err == nil && u.IdleTimeout != nil {
			sb.touch(ctx)
		}
		if err == nil && u.Name != nil {
			sb.renameGuest(ctx)
		}
		step("updated")
		if err == nil && u.DiskSizeMiB != nil {
			return sb.growDisk(ctx, before)
		}
		return err
	})
}

// guestPatience is how long a guest has to take its new name.
const guestPatience = 5 * time.Second

// renameGuest tells a guest that runs its new name. One that can't be told
// learns it with its next start. For those that hold sb.op.
func (sb *Sandbox) renameGuest(ctx context.Context) {
	if !sb.answering() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	client, err := sb.connect(ctx)
	if err == nil {
		err = client.Identity(ctx, sb.identity())
	}
	if err != nil {
		sb.m.log.Info("telling a guest its new name", "sandbox", sb.id, "err", err)
	}
}

// apply is info with the update done to it. What info shares with others,
// its maps, is left alone.
func (u Update) apply(info Info, now time.Time) (Info, error) {
	if u.Name != nil {
		info.Name = *u.Name
	}
	switch {
	case u.ReplaceMetadata:
		info.Metadata = merge(nil, u.Metadata)
	case u.Metadata != nil:
		info.Metadata = merge(info.Metadata, u.Metadata)
	}
	info.Labels = mergeText(info.Labels, u.Labels)
	info.Env = mergeText(info.Env, u.Env)
	if u.TTL != nil {
		info.ExpiresAt = time.Time{}
		if *u.TTL > 0 {
			info.ExpiresAt = now.Add(*u.TTL).UTC()
		}
		if err := checkTTL(*u.TTL); err != nil {
			return info, err
		}
	}
	if u.IdleTimeout != nil {
		info.IdleTimeout, info.LastUsed = *u.IdleTimeout, time.Time{}
	}
	if u.IdleAction != nil {
		info.IdleAction = *u.IdleAction
	}
	if info.IdleTimeout > 0 && info.IdleAction == "" {
		info.IdleAction = IdlePause
	}
	if u.DiskSizeMiB != nil {
		if err := checkGrow(info, *u.DiskSizeMiB); err != nil {
			return info, err
		}
		info.DiskSizeMiB = *u.DiskSizeMiB
	}
	if info.LastUsed.IsZero() {
		info.usedNow()
	}
	for _, err := range []error{
		checkName(info.Name), checkMetadata(info.Metadata), checkLabels(info.Labels), checkEnv(info.Env),
		checkIdle(info.IdleTimeout, info.IdleAction),
	} {
		if err != nil {
			return info, err
		}
	}
	return info, nil
}

// merge is a merge patch (RFC 7386) of have by patch. It changes neither.
func merge(have, patch map[string]any) map[string]any {
	out := maps.Clone(have)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(out, k)
		case map[string]any:
			old, _ := out[k].(map[string]any)
			out[k] = merge(old, v)
		default:
			out[k] = v
		}
	}
	return out
}

func mergeText(have map[string]string, patch map[string]*string) map[string]string {
	if len(patch) == 0 {
		return have
	}
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range patch {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = *v
		}
	}
	return out
}

func checkName(name string) error {
	if name == "" || store.ValidName(name) {
		return nil
	}
	return wire.Errorf(CodeInvalid, "name %q: letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit, and not like an id", name)
}

func checkMetadata(metadata map[string]any) error {
	if b, err := json.Marshal(metadata); err != nil || len(b) > maxMetadataBytes {
		return wire.Errorf(CodeInvalid, "metadata: must be JSON of at most %d bytes", maxMetadataBytes)
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return wire.Errorf(CodeInvalid, "%d labels: at most %d", len(labels), maxLabels)
	}
	for k, v := range labels {
		if k == "" || len(k)+len(v) > maxLabelBytes || strings.ContainsAny(k, "=\x00\n") || strings.ContainsAny(v, "\x00\n") {
			return wire.Errorf(CodeInvalid, "label %q: name and value have at most %d bytes and no line ends; a name is not empty and has no '='", k, maxLabelBytes)
		}
	}
	return nil
}

func checkEnv(env map[string]string) error {
	size := 0
	for k, v := range env {
		if size += len(k) + len(v) + 2; size > maxEnvBytes {
			return wire.Errorf(CodeInvalid, "environment: at most %d bytes", maxEnvBytes)
		}
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(v, "\x00") {
			return wire.Errorf(CodeInvalid, "environment variable %q: a name has no '=', and neither part a NUL", k)
		}
	}
	return nil
}
