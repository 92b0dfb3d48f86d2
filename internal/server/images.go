package server

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
)

var imageRoutes = []route{
	{method: "GET", path: "/api/images", need: auth.NeedAny, tag: tagImages, summary: "List the images of the local store", do: call((*Server).listImages)},
	{method: "GET", path: "/api/images/inspect", need: auth.NeedAny, tag: tagImages, summary: "All there is to know of an image", do: call((*Server).getImage)},
	{method: "POST", path: "/api/images/pull", need: auth.NeedUse, tag: tagImages, summary: "Bring an image into the local store",
		about: "With Accept: text/event-stream it answers with events: progress, then done or error.", do: call((*Server).pullImage), events: (*Server).pullEvents},
	{method: "POST", path: "/api/images/load", need: auth.NeedUse, tag: tagImages, summary: "Bring the image in an archive, the request's body, into the local store", do: stream((*Server).loadImage, loadDoc)},
	{method: "DELETE", path: "/api/images", need: auth.NeedUse, tag: tagImages, summary: "Remove an image, or one of its names", about: "A conflict while a sandbox is made from it.", do: call((*Server).removeImage)},
	{method: "POST", path: "/api/images/prune", need: auth.NeedAdmin, tag: tagImages, summary: "Remove the images that nobody needs", do: call((*Server).pruneImages)},
}

type imageRef struct {
	Ref string `query:"ref" required:"true" doc:"A name, a digest, or the beginning of one"`
}

func (s *Server) listImages(ctx context.Context, _ *struct{}) (*answer[api.Images], error) {
	list, err := s.m.Images(ctx)
	for i := range list {
		list[i] = shownImage(ctx, list[i])
	}
	return answered(list), err
}

// shownImage is an image without the sandboxes that its caller may not see.
func shownImage(ctx context.Context, img bandsox.Image) bandsox.Image {
	who, users := auth.From(ctx), []string{}
	for _, id := range img.UsedBy {
		if who.Sees(id) {
			users = append(users, id)
		}
	}
	img.UsedBy = users
	return img
}

func (s *Server) getImage(ctx context.Context, in *imageRef) (*answer[bandsox.Image], error) {
	img, err := s.m.Image(ctx, in.Ref)
	return answered(shownImage(ctx, img)), err
}

func (s *Server) pullImage(ctx context.Context, in *struct{ Body api.PullImage }) (*answer[bandsox.Image], error) {
	img, err := s.pull(ctx, in.Body.Image)
	return answered(img), err
}

func (s *Server) pull(ctx context.Context, ref string) (bandsox.Image, error) {
	if err := allowImage(ctx, ref); err != nil {
		return bandsox.Image{}, err
	}
	return s.m.Pull(ctx, ref)
}

func (s *Server) pullEvents(w http.ResponseWriter, r *http.Request) error {
	var body api.PullImage
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	stream := newEvents(w)
	defer stream.close()
	ctx := stream.progress(r.Context())
	img, err := s.pull(ctx, body.Image)
	if err != nil {
		return stream.send("", "error", s.asStatus(err, nil))
	}
	return stream.send("", "done", img)
}

func (s *Server) loadImage(w http.ResponseWriter, r *http.Request) error {
	ref := r.URL.Query().Get("ref")
	if ref == "" {
		ref = "docker-archive:-"
	}
	if kind, rest, _ := strings.Cut(ref, ":"); kind != "docker-archive" && kind != "oci-archive" || rest != "-" && !strings.HasPrefix(rest, "-:") {
		return invalid("ref %q: must be docker-archive:- or oci-archive:-, with :TAG behind it if need be", ref)
	}
	img, err := s.m.Load(r.Context(), ref, r.Body)
	if err != nil {
		return err
	}
	return writeJSON(w, img)
}

func loadDoc(op *huma.Operation, schemas huma.Registry) {
	op.Parameters = append(op.Parameters, param("ref", aString, false, "docker-archive:- (if not given) or oci-archive:-, with :TAG behind it where the archive holds several"))
	op.RequestBody = &huma.RequestBody{Required: true, Description: "What docker save or skopeo wrote",
		Content: map[string]*huma.MediaType{"application/x-tar": {Schema: aBinary}, "application/octet-stream": {Schema: aBinary}}}
	op.Responses = jsonResponse[bandsox.Image](schemas, "The image")
}

func (s *Server) removeImage(ctx context.Context, in *imageRef) (*answer[api.Status], error) {
	return status("deleted"), s.m.RemoveImage(ctx, in.Ref)
}

func (s *Server) pruneImages(ctx context.Context, in *struct{ Body api.PruneImages }) (*answer[api.Images], error) {
	list, err := s.m.PruneImages(ctx, in.Body.All)
	return answered(list), err
}
