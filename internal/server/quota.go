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

// reserve promises more to an owner, if there is room for it. The returned func is
// told the sandboxes that were made, if any.
func (q *quotas) reserve(ctx context.Context, m *bandsox.Manager, owner string, limits auth.Limits, more auth.Usage) (func([]*bandsox.Sandbox), error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	have, err := q.use(ctx, m, owner)
	if err != nil {
		return nil, err
	}
	if err := limits.Check(have, more); err != nil {
		return nil, err
	}
	if q.promised == nil {
		q.promised = map[string]auth.Usage{}
	}
	q.promised[owner] = add(q.promised[owner], more)
	return func(made []*bandsox.Sandbox) {
		q.mu.Lock()
		defer q.mu.Unlock()
		left := add(q.promised[owner], auth.Usage{Sandboxes: -more.Sandboxes, VCPU: -more.VCPU, MemMiB: -more.MemMiB})
		if q.promised[owner] = left; left == (auth.Usage{}) {
			delete(q.promised, owner)
		}
		for _, sb := range made {
			q.made[sb.ID()] = true
		}
	}, nil
}

func add(a, b auth.Usage) auth.Usage {
	return auth.Usage{Sandboxes: a.Sandboxes + b.Sandboxes, VCPU: a.VCPU + b.VCPU, MemMiB: a.MemMiB + b.MemMiB}
}

// within makes n sandboxes of a size for the caller of a request, if they may have
// them. make is given whom they are to belong to.
func (s *Server) within(ctx context.Context, n, vcpu, memMiB int, make func(owner string) ([]*bandsox.Sandbox, error)) (made []*bandsox.Sandbox, err error) {
	who := auth.From(ctx)
	if who.ID != "" {
		done, err := s.quotas.reserve(ctx, s.m, who.ID, who.Limits, auth.Usage{Sandboxes: n, VCPU: n * vcpu, MemMiB: n * memMiB})
		if err != nil {
			return nil, err
		}
		defer func() { done(made) }()
	}
	list, err := make(who.ID)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// make makes a sandbox for the caller of a request, if they may have it.
func (s *Server) make(ctx context.Context, o bandsox.CreateOptions) (*bandsox.Sandbox, error) {
	if err := allowImage(ctx, o.Image); err != nil {
		return nil, err
	}
	vcpu, mem := cmp.Or(o.VCPU, bandsox.DefaultVCPU), cmp.Or(o.MemMiB, bandsox.DefaultMemMiB)
	list, err := s.within(ctx, 1, vcpu, mem, func(owner string) ([]*bandsox.Sandbox, error) {
		o.Owner = owner
		began := time.Now()
		sb, err := s.m.Create(ctx, o)
		s.figures.created(ctx, sb, time.Since(began), err)
		return []*bandsox.Sandbox{sb}, err
	})
	if err != nil {
		return nil, err
	}
	return list[0], nil
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
