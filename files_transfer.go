package bandsox

import (
	"context"

	"github.com/bandsox/bandsox/internal/transfer"
)

// TransferOptions are for Upload and Download. The zero value copies.
type TransferOptions = transfer.Options

// Transfer says what was copied.
type Transfer = transfer.Result

// Upload copies a file of this host to path in the sandbox, where parents are
// made. The file there is replaced at once, or stays as it was.
func (sb *Sandbox) Upload(ctx context.Context, local, path string, o TransferOptions) (Transfer, error) {
	return sb.side().Upload(ctx, local, path, o)
}

// Download copies a file of the sandbox to a path of this host, whose
// directory must exist. The file there is replaced at once, or stays as it was.
func (sb *Sandbox) Download(ctx context.Context, path, local string, o TransferOptions) (Transfer, error) {
	return sb.side().Download(ctx, path, local, o)
}
