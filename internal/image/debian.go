package image

import "context"

const debianSuite = "bookworm"

func openDebian(ctx context.Context, r reference, o Options) (*Image, error) { return nil, nil }
