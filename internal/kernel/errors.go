package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/bandsox/bandsox/internal/wire"
)

// Progress is told how far a piece of long work has come: what it is, the
// bytes done, and their total (0 when unknown). It is called every 50 ms at
// most, and once at the end.
type Progress func(what string, done, total int64)

// fail gives err its class, unless it has one, and says what was being done.
// A full disk must be told from everything else: it ends the whole search for
// a kernel, and the user can mend it.
func fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	var we *wire.Error
	switch {
	case errors.As(err, &we):
		return &wire.Error{Code: we.Code, Message: what + ": " + err.Error(), Hint: we.Hint, Err: err}
	case diskFull(err):
		return wire.Errorf(wire.Exhausted, "%s: %w", what, err).WithHint("df -h")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return wire.Errorf(wire.Denied, "%s: %w", what, err)
	case errors.Is(err, fs.ErrNotExist):
		return wire.Errorf(wire.NotFound, "%s: %w", what, err)
	case errors.Is(err, context.DeadlineExceeded):
		return wire.Errorf(wire.Timeout, "%s: %w", what, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	}
	return wire.Errorf(wire.Internal, "%s: %w", what, err)
}

// hintOf is the hint of the outermost error that has one.
func hintOf(err error) string {
	var we *wire.Error
	for errors.As(err, &we) {
		if we.Hint != "" {
			return we.Hint
		}
		err = we.Err
	}
	return ""
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// fatal reports an error that no other source can mend.
func fatal(ctx context.Context, err error) bool { return ctx.Err() != nil || diskFull(err) }
