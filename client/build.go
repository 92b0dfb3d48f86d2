package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

// Build builds an image of a Dockerfile and brings it into the server's store.
// The build's files are this host's; the docker daemon that does the work is
// the server's. What bandsox.WithProgress gave ctx is told how long it takes.
func (c *Client) Build(ctx context.Context, o bandsox.BuildOptions) (img bandsox.Image, err error) {
	tar, file, err := o.Pack(ctx)
	if err != nil {
		return img, err
	}
	defer tar.Close()
	header := http.Header{"Content-Type": {"application/x-tar"}}
	events := bandsox.ProgressOf(ctx) != nil || o.Log != nil
	if events {
		header.Set("Accept", "text/event-stream")
	}
	sent := &source{r: tar}
	resp, err := c.send(ctx, "build", o.Tag, http.MethodPost, "/api/builds", api.BuildQuery(o, file), sent, header)
	if err != nil {
		if own := sent.failed(); own != nil && ctx.Err() == nil {
			err = failure("build", o.Tag, own) // the files could not be read
		}
		return img, err
	}
	defer resp.Body.Close()
	if !events {
		err = json.NewDecoder(resp.Body).Decode(&img)
		return img, failure("build", o.Tag, ctxOr(ctx, err))
	}
	for m, err := range messages(ctx, resp.Body) {
		if err != nil {
			return img, failure("build", o.Tag, err)
		}
		switch m.kind {
		case "progress":
			tellProgress(ctx, m)
		case "log":
			var l api.BuildLog
			if json.Unmarshal(m.data, &l) == nil && o.Log != nil {
				if _, err := io.WriteString(o.Log, l.Text); err != nil {
					return img, failure("build", o.Tag, err)
				}
			}
		case "error":
			return img, eventError("build", o.Tag, m)
		case "done":
			err := json.Unmarshal(m.data, &img)
			return img, failure("build", o.Tag, err)
		}
	}
	return img, failure("build", o.Tag, io.ErrUnexpectedEOF)
}
