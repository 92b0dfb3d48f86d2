package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

// Pull brings an image into the server's store, whatever is there already. What
// bandsox.WithProgress gave ctx is told how long it takes.
func (c *Client) Pull(ctx context.Context, ref string) (img bandsox.Image, err error) {
	in := api.PullImage{Image: ref}
	if bandsox.ProgressOf(ctx) == nil {
		err = c.call(ctx, "pull", ref, http.MethodPost, "/api/images/pull", nil, in, &img)
		return img, err
	}
	resp, err := c.send(ctx, "pull", ref, http.MethodPost, "/api/images/pull", nil, strings.NewReader(string(api.JSON(in))), http.Header{
		"Accept": {"text/event-stream"}, "Content-Type": {"application/json"}})
	if err != nil {
		return img, err
	}
	defer resp.Body.Close()
	for m, err := range messages(ctx, resp.Body) {
		if err != nil {
			return img, failure("pull", ref, err)
		}
		switch m.kind {
		case "progress":
			tellProgress(ctx, m)
		case "error":
			return img, eventError("pull", ref, m)
		case "done":
			err := json.Unmarshal(m.data, &img)
			return img, failure("pull", ref, err)
		}
	}
	return img, failure("pull", ref, io.ErrUnexpectedEOF)
}

// tellProgress tells what bandsox.WithProgress gave ctx what an event says.
func tellProgress(ctx context.Context, m message) {
	var p api.Progress
	if tell := bandsox.ProgressOf(ctx); tell != nil && json.Unmarshal(m.data, &p) == nil {
		tell(p.What, p.Done, p.Total)
	}
}

// eventError is the error that an event tells of.
func eventError(op, id string, m message) error {
	var body api.Error
	if err := json.Unmarshal(m.data, &body); err != nil {
		return failure(op, id, err)
	}
	return bodyError(op, id, body)
}

// Load brings the image in an archive into the server's store. ref is
// docker-archive:- or oci-archive:-, with :TAG behind it where the archive holds
// several.
func (c *Client) Load(ctx context.Context, ref string, r io.Reader) (img bandsox.Image, err error) {
	resp, err := c.send(ctx, "load", ref, http.MethodPost, "/api/images/load", url.Values{"ref": {ref}}, io.NopCloser(r), http.Header{"Content-Type": {"application/x-tar"}})
	if err != nil {
		return img, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&img)
	return img, failure("load", ref, ctxOr(ctx, err))
}

// Images lists the server's store.
func (c *Client) Images(ctx context.Context) (list []bandsox.Image, err error) {
	err = c.get(ctx, "list images", "/api/images", nil, &list)
	return list, err
}

// Image finds one image of the server's store by name, digest, or the
// beginning of a digest.
func (c *Client) Image(ctx context.Context, ref string) (img bandsox.Image, err error) {
	err = c.call(ctx, "image", ref, http.MethodGet, "/api/images/inspect", url.Values{"ref": {ref}}, nil, &img)
	return img, err
}

// RemoveImage forgets a name; with the last name of an image, or given by
// digest, its base goes too. It is a conflict while a sandbox is made from it.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	return c.call(ctx, "remove image", ref, http.MethodDelete, "/api/images", url.Values{"ref": {ref}}, nil, nil)
}

// PruneImages removes the images that no name stands for, or with all every
// one, unless a sandbox is made from it, and returns what it removed.
func (c *Client) PruneImages(ctx context.Context, all bool) (list []bandsox.Image, err error) {
	err = c.call(ctx, "prune", "", http.MethodPost, "/api/images/prune", nil, api.PruneImages{All: all}, &list)
	return list, err
}

// Doctor finds out what the server's host can do, by trying it.
func (c *Client) Doctor(ctx context.Context) (report bandsox.Report, err error) {
	err = c.get(ctx, "doctor", "/api/doctor", nil, &report)
	return report, err
}

// Usage measures the server's state directory.
func (c *Client) Usage(ctx context.Context) (u bandsox.DiskUsage, err error) {
	err = c.get(ctx, "usage", "/api/usage", nil, &u)
	return u, err
}

// Shutdown ends the server. Sandboxes go on, and the next server finds them.
func (c *Client) Shutdown(ctx context.Context) error {
	return c.call(ctx, "shutdown", "", http.MethodPost, "/api/shutdown", nil, nil, nil)
}

// Cleanup finds what killed processes left behind, and unless dryRun reclaims
// it.
func (c *Client) Cleanup(ctx context.Context, dryRun bool) (list []bandsox.Leftover, err error) {
	err = c.call(ctx, "cleanup", "", http.MethodPost, "/api/cleanup", nil, api.Cleanup{DryRun: dryRun}, &list)
	return list, err
}
