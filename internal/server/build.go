package server

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
)

var buildRoutes = []route{
	{method: "POST", path: "/api/builds", need: auth.NeedUse, tag: tagImages, summary: "Build an image of a Dockerfile and the files with it, a tar archive, the request's body",
		about: buildAbout + " With Accept: text/event-stream it answers with events: progress and log, then done or error.", do: stream((*Server).build, buildDoc)},
	{method: "POST", path: "/api/vms/from-dockerfile", need: auth.NeedUse, tag: tagVMs, summary: "Make a sandbox from a Dockerfile",
		about: buildAbout + " It has no files to copy: with files, build an image first.", do: stream((*Server).createFromDockerfile, fromDockerfileDoc)},
}

const buildAbout = "The docker daemon of the server's host does it, with its classic builder; RUN runs in containers there, not in a sandbox."

// maxBuildContext is the limit of an archive of a build's files.
const maxBuildContext = 16 << 30

// building is how long a build lasts at most: as the request, and the server.
func (s *Server) building(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.closing, cancel)
	return ctx, func() { stop(); cancel() }
}

func (s *Server) build(w http.ResponseWriter, r *http.Request) error {
	if err := allowBuild(r.Context()); err != nil {
		return err
	}
	o, err := buildOptions(r)
	if err != nil {
		return err
	}
	// Aside, all of it: the daemon is not kept waiting by a slow client, and
	// events can be answered when the request has been read.
	f, err := s.buildContext(w, r)
	if err != nil {
		return err
	}
	defer f.Close()
	o.Context = f
	ctx, cancel := s.building(r)
	defer cancel()
	if !wantsEvents(r) {
		img, err := s.m.Build(ctx, o)
		if err != nil {
			return err
		}
		return writeJSON(w, shownImage(ctx, img))
	}
	stream := newEvents(w)
	defer stream.close()
	log := &lineLog{tell: func(text string) error { return stream.send("", "log", api.BuildLog{Text: text}) }}
	o.Log = log
	ctx = stream.progress(ctx)
	img, err := s.m.Build(ctx, o)
	_ = log.flush()
	if err != nil {
		return stream.send("", "error", s.asStatus(err, nil))
	}
	return stream.send("", "done", shownImage(ctx, img))
}

func buildOptions(r *http.Request) (o bandsox.BuildOptions, err error) {
	q := r.URL.Query()
	o = bandsox.BuildOptions{File: q.Get("dockerfile"), Tag: q.Get("tag"), Target: q.Get("target")}
	if o.NoCache, err = flag(r, "no_cache"); err != nil {
		return o, err
	}
	if o.Pull, err = flag(r, "pull"); err != nil {
		return o, err
	}
	o.Args, err = pairs("build_arg", q["build_arg"])
	return o, err
}

// buildContext puts the request's body aside.
func (s *Server) buildContext(w http.ResponseWriter, r *http.Request) (*os.File, error) {
	f, err := s.m.TempFile()
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(f, http.MaxBytesReader(w, r.Body, maxBuildContext))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lineLog tells of output line by line.
type lineLog struct {
	tell func(text string) error

	mu   sync.Mutex
	rest string
}

// longestLine is told of in parts when it is longer.
const longestLine = 64 << 10

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.rest + string(p)
	end := strings.LastIndexByte(text, '\n') + 1
	if end == 0 && len(text) > longestLine {
		end = len(text)
	}
	l.rest = text[end:]
	if end == 0 {
		return len(p), nil
	}
	return len(p), l.tell(strings.ToValidUTF8(text[:end], "\uFFFD"))
}

func (l *lineLog) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rest == "" {
		return nil
	}
	text := l.rest
	l.rest = ""
	return l.tell(strings.ToValidUTF8(text, "\uFFFD"))
}

func buildDoc(op *huma.Operation, schemas huma.Registry) {
	schemaOf[api.BuildLog](schemas, "BuildLog")
	op.Parameters = append(op.Parameters,
		param("dockerfile", aString, false, "The Dockerfile's path in the archive; Dockerfile if not given"),
		param("tag", aString, false, "The image's name; none: it goes by its digest"),
		param("target", aString, false, "The stage to build; the last if not given"),
		param("build_arg", &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Pattern: "^[^=]+="}}, false, "KEY=VALUE, for an ARG; may be given several times"),
		param("no_cache", aBool, false, "Do every step anew"), param("pull", aBool, false, "Look for newer base images"))
	op.RequestBody = &huma.RequestBody{Required: true, Description: "The build's files, as they are or compressed",
		Content: map[string]*huma.MediaType{"application/x-tar": {Schema: aBinary}, "application/octet-stream": {Schema: aBinary}}}
	op.Responses = jsonResponse[bandsox.Image](schemas, "The image")
	op.Responses["200"].Content["text/event-stream"] = &huma.MediaType{Schema: aString}
}
