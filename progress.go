package bandsox

import "context"

// Progress is told how long work goes on: what is being done, how much of how
// much (0: unknown). It may be called from several goroutines.
type Progress = func(what string, done, total int64)

type progressKey struct{}

// WithProgress returns a context whose long work is told to f, rather than to
// Config.Progress: that of one of many callers of one manager.
func WithProgress(ctx context.Context, f Progress) context.Context {
	return context.WithValue(ctx, progressKey{}, f)
}

// ProgressOf is what WithProgress gave the context, nil if it gave nothing.
func ProgressOf(ctx context.Context) Progress {
	f, _ := ctx.Value(progressKey{}).(Progress)
	return f
}

func (m *Manager) progress(ctx context.Context) Progress {
	if f := ProgressOf(ctx); f != nil {
		return f
	}
	return m.cfg.Progress
}
