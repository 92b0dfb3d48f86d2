package api

import "github.com/bandsox/bandsox"

// Version is what a server is.
type Version struct {
	Version   string `json:"version"`
	Go        string `json:"go"`
	Arch      string `json:"arch"`
	Driver    string `json:"driver" doc:"What runs the machines"`
	Domain    string `json:"domain" doc:"What the host names of guests' servers end with: PORT-ID.DOMAIN"`
	Snapshots bool   `json:"snapshots" doc:"Whether it has the routes about snapshots"`
	// Settings is told only to who may open the server's socket.
	Settings []string `json:"settings,omitempty" doc:"The flags that shape what it does, as it was started with; told only through its own socket"`
}

// Ready says that a server can work.
type Ready struct {
	Status    string `json:"status"`
	FreeBytes int64  `json:"free_bytes" doc:"Room in the state directory"`
	bandsox.Readiness
}
