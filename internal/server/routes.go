package server

import (
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// tags are the parts of the documentation, in its order.
var tags = []*huma.Tag{
	{Name: tagVMs, Description: "MicroVMs made from container images."},
	{Name: tagSnapshots, Description: "Sandboxes at one instant, memory and disk, and the sandboxes that go on from there."},
	{Name: tagImages, Description: "The local store of images that sandboxes are made from."},
	{Name: tagPrograms, Description: "Programs in sandboxes, and their input and output."},
	{Name: tagFiles, Description: "Files in sandboxes. " + filesAbout},
	{Name: tagEvents, Description: "What happens."},
	{Name: tagPorts, Description: "Servers in sandboxes. " + portsAbout},
	{Name: tagKeys, Description: "Who may do what."},
	{Name: tagHouse, Description: "The server itself."},
}

const (
	tagVMs       = "Sandboxes"
	tagSnapshots = "Snapshots"
	tagImages    = "Images"
	tagPrograms  = "Programs"
	tagFiles     = "Files"
	tagEvents    = "Events"
	tagKeys      = "Keys"
	tagPorts     = "Ports"
	tagHouse     = "Server"
)

// routes is all there is, by what it is about.
func routes() []route {
	return slices.Concat(vmRoutes, execRoutes, processRoutes, fileRoutes, snapshotRoutes, imageRoutes, buildRoutes, eventRoutes, webhookRoutes, houseRoutes, relayRoutes, authRoutes, healthRoutes, docRoutes, pageRoutes)
}
