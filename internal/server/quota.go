package server

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

// quotas hold keys to what they may take. A sandbox that is being made is
// promised, from before there is a record of it until it is made: so two that
// are asked for at once don't both find the same room.
type quotas struct {
	mu       sync.Mutex
	promised map[string]auth.Usage // by owner
	made     map[string]bool       // sandboxes with an owner that are made; others are promised
}

// used is what the sandboxes of an owner take.
func (q *quotas) used(ctx context.Context, m *bandsox.Manager, owner string) (auth.Usage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.use(ctx, m, owner)
}

func (q *quotas) use(ctx context.Context, m *bandsox.Manager, owner string) (auth.Usage, error) {
	if owner == "" {
		return auth.Usage{}, nil
	}
	list, err := m.List(ctx, bandsox.ListOptions{})
	if err != nil {
		return auth.Usage{}, err
	}
	first := q.made == nil // nothing is promised yet
	sum, there := q.promised[owner], map[string]bool{}
	for _, info := range list {
		if info.Owner == "" || !first && !q.made[info.ID] {
			continue
		}
		there[info.ID] = true
		if info.Owner == owner {
			sum = add(sum, auth.Usage{Sandboxes: 1, VCPU: info.VCPU, MemMiB: info.MemMiB})
		}
	}
	q.made = there
	return sum, nil
}

// reserve promises what o takes to its owner, if there is room for it. The
// returned func is told the sandbox that was made, or that none was.
func (q *quotas) reserve(ctx context.Context, m *bandsox.Manager, limits auth.Limits, o bandsox.CreateOptions) (func(*bandsox.Sandbox), error) {
	more := auth.Usage{Sandboxes: 1, VCPU: cmp.Or(o.VCPU, bandsox.DefaultVCPU), MemMiB: cmp.Or(o.MemMiB, bandsox.DefaultMemMiB)}
	q.mu.Lock()
	defer q.mu.Unlock()
	have, err := q.use(ctx, m, o.Owner)
	if err != nil {
		return nil, err
	}
	if err := limits.Check(have, more); err != nil {
		return nil, err
	}
	if q.promised == nil {
		q.promised = map[string]auth.Usage{}
	}
	q.promised[o.Owner] = add(q.promised[o.Owner], more)
	return func(sb *bandsox.Sandbox) {
		q.mu.Lock()
		defer q.mu.Unlock()
		left := add(q.promised[o.Owner], auth.Usage{Sandboxes: -1, VCPU: -more.VCPU, MemMiB: -more.MemMiB})
		if q.promised[o.Owner] = left; left == (auth.Usage{}) {
			delete(q.promised, o.Owner)
		}
		if sb != nil {
			q.made[sb.ID()] = true
		}
	}, nil
}

func add(a, b auth.Usage) auth.Usage {
	return auth.Usage{Sandboxes: a.Sandboxes + b.Sandboxes, VCPU: a.VCPU + b.VCPU, MemMiB: a.MemMiB + b.MemMiB}
}

// make makes a sandbox for the caller of a request, if they may have it.
func (s *Server) make(ctx context.Context, o bandsox.CreateOptions) (sb *bandsox.Sandbox, err error) {
	if err := allowImage(ctx, o.Image); err != nil {
		return nil, err
	}
	who := auth.From(ctx)
	if o.Owner = who.ID; o.Owner != "" {
		done, err := s.quotas.reserve(ctx, s.m, who.Limits, o)
		if err != nil {
			return nil, err
		}
		defer func() { done(sb) }()
	}
	began := time.Now()
	sb, err = s.m.Create(ctx, o)
	s.figures.created(ctx, sb, time.Since(began), err)
	return sb, err
}

// allowBuild refuses a build to those who may not do everything here: what its
// RUN runs is root in a container of the host, and in no microVM.
func allowBuild(ctx context.Context) error {
	who := auth.From(ctx)
	if who.Kind == auth.Local || who.Kind != auth.Anonymous && auth.Allow(who, auth.NeedAdmin, "") == nil {
		return nil
	}
	return wire.Errorf(wire.Denied, "a build runs as root in a container of the server's host: %s may not", who).
		WithHint("build on the server, by its command line, or with a key of scope admin; or docker build elsewhere, and bandsox image load")
}

// hostImages are the beginnings of the references that name files of this host.
var hostImages = []string{"dir:", "oci:", "docker-archive:", "oci-archive:"}

// allowImage refuses an image out of files of this host, whatever their mode,
// to those who may not do everything here. While there are no keys nobody on TCP
// may: a program of any user can call, a page in a browser too perhaps.
func allowImage(ctx context.Context, ref string) error {
	who := auth.From(ctx)
	for _, prefix := range hostImages {
		if !strings.HasPrefix(ref, prefix) || who.Kind == auth.Local {
			continue
		}
		if who.Kind == auth.Anonymous {
			return wire.Errorf(wire.Denied, "image %q is in files of the server's host, and there are no keys to tell who may read them", ref).
				WithHint("use the command line on the server, or make keys there: bandsox auth init")
		}
		if auth.Allow(who, auth.NeedAdmin, "") != nil {
			return wire.Errorf(wire.Denied, "image %q is in files of the server's host: %s may not read them", ref, who).
				WithHint("it takes a key with the scope admin, or the image from a registry")
		}
	}
	return nil
}
