package api

import "github.com/bandsox/bandsox"

// PullImage asks for an image.
type PullImage struct {
	Image string `json:"image" doc:"As in POST /api/vms"`
}

// PruneImages asks for the images that nobody needs to be removed.
type PruneImages struct {
	All bool `json:"all,omitempty" doc:"Those with a name too, unless a sandbox is made from them"`
}

// Cleanup asks for what killed processes left behind to be reclaimed.
type Cleanup struct {
	DryRun bool `json:"dry_run,omitempty" doc:"Say only what would be reclaimed"`
}

// Images is a list of images.
type Images = []bandsox.Image
