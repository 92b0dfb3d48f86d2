package image

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/bandsox/bandsox/internal/wire"
)

// BuildRequest says what a docker daemon shall build.
type BuildRequest struct {
	Context io.Reader // a tar archive of the files, as BuildContext.Open returns it
	File    string    // the Dockerfile's path in it
	Tag     string    // the image's name in the daemon; "" = none
	Target  string    // the stage to build; "" = the last
	Args    map[string]string
	NoCache bool
	Pull    bool      // look for newer base images
	Log     io.Writer // what the build says, as it says it; may be nil
}

// Bounds on what is kept of a build's output.
const (
	maxBuildMessage = 4 << 20 // one of the daemon's, in bytes
	keptBuildOutput = 2000    // bytes of the end, for an error
)

// Build has the docker daemon build an image, and returns its id. It ends with
// ctx. The error of a build that fails has the end of its output.
//
// It is the daemon's classic builder, which every daemon has that speaks the
// API; what only BuildKit knows (RUN --mount, COPY --link) it refuses.
func Build(ctx context.Context, o Options, b BuildRequest) (string, error) {
	o, err := o.withDefaults()
	if err != nil {
		return "", err
	}
	q, err := b.query()
	if err != nil {
		return "", err
	}
	d, err := newDocker(o.Docker)
	if err != nil {
		return "", err
	}
	defer d.http.CloseIdleConnections()
	m := &meter{what: "sending the build's files to docker", tell: o.Progress}
	body := &sentBody{r: b.Context, left: o.MaxBytes, limit: o.MaxBytes, m: m}
	defer body.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.base+"/build?"+q.Encode(), body)
	if err != nil {
		return "", wire.Errorf(wire.Invalid, "docker daemon at %q: %w", d.host, err)
	}
	req.Header.Set("Content-Type", "application/x-tar")
	if auths := registryAuths(); auths != "" {
		req.Header.Set("X-Registry-Config", auths)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return "", d.notBuilt(ctx, body, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said := refusal(resp)
		if err := body.failure(); err != nil {
			return "", err // what the daemon got was cut short
		}
		return "", buildError(said, nil)
	}
	out := &buildOutput{log: b.Log, tell: o.Progress}
	id, err := out.read(resp.Body)
	var coded *wire.Error
	switch {
	case err == nil || ctx.Err() == nil && body.failure() == nil && errors.As(err, &coded):
		return id, err
	default:
		return "", d.notBuilt(ctx, body, err)
	}
}

// notBuilt is why the daemon gave no answer, or not the whole of one.
func (d *docker) notBuilt(ctx context.Context, body *sentBody, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if own := body.failure(); own != nil {
		return own
	}
	err = d.unreachable(err)
	var e *wire.Error
	if errors.As(err, &e) && e.Code == wire.Unavailable {
		return e.WithHint("sudo systemctl start docker; or where there is one: docker build -t NAME DIR && docker save NAME -o FILE, and here: bandsox image load -i FILE")
	}
	return err
}

func (b BuildRequest) query() (url.Values, error) {
	q := url.Values{"dockerfile": {b.File}, "rm": {"1"}, "forcerm": {"1"}}
	if b.Tag != "" {
		r, err := parse(b.Tag)
		if err != nil {
			return nil, err
		}
		if r.kind != kindName || strings.Contains(b.Tag, "@") {
			return nil, wire.Errorf(wire.Invalid, "reading tag %q: it must be a name, with :TAG behind it if need be", b.Tag)
		}
		q.Set("t", familiar(r.name))
	}
	if b.Target != "" {
		q.Set("target", b.Target)
	}
	if b.NoCache {
		q.Set("nocache", "1")
	}
	if b.Pull {
		q.Set("pull", "1")
	}
	if len(b.Args) > 0 {
		args, err := json.Marshal(b.Args)
		if err != nil {
			return nil, wire.Errorf(wire.Invalid, "reading build arguments: %w", err)
		}
		q.Set("buildargs", string(args))
	}
	return q, nil
}

// sentBody is a build's context on its way. It keeps its own error, which the
// transport would take for the daemon's, and tells nobody how far it is once
// the build has ended: the transport may read on for a while.
type sentBody struct {
	r           io.Reader
	left, limit int64

	mu      sync.Mutex
	m       *meter
	stopped bool
	err     error
}

func (s *sentBody) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return 0, io.ErrClosedPipe
	}
	s.m.add(int64(n))
	if s.left -= int64(n); s.left < 0 {
		err = wire.Errorf(wire.Exhausted, "reading the build's context: more than the %s that are allowed", inUnits(s.limit))
	}
	switch {
	case err == io.EOF:
		s.m.end()
	case err != nil:
		s.err = err
	}
	return n, err
}

func (s *sentBody) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

func (s *sentBody) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// buildOutput is what a build says.
type buildOutput struct {
	log  io.Writer
	tell func(what string, done, total int64)
	end  []byte
}

// buildMessage is one line of the daemon's answer.
type buildMessage struct {
	Stream         string
	Status         string
	ID             string
	ProgressDetail struct{ Current, Total int64 }
	Error          string
	ErrorDetail    struct{ Message string }
	Aux            json.RawMessage
}

// read returns the id of the image that was built.
func (o *buildOutput) read(r io.Reader) (id string, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxBuildMessage)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var m buildMessage
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return "", wire.Errorf(wire.Unavailable, "reading docker's answer: %w", err)
		}
		if m.Error == "" {
			m.Error = m.ErrorDetail.Message
		}
		if m.Error != "" {
			return "", buildError(m.Error, o.end)
		}
		var aux struct{ ID string }
		if json.Unmarshal(m.Aux, &aux) == nil && fullDigest.MatchString(aux.ID) {
			id = aux.ID
		}
		if err := o.say(m); err != nil {
			return "", err
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	if id == "" {
		return "", wire.Errorf(wire.Unavailable, "docker's answer to the build ended without an image")
	}
	return id, nil
}

func (o *buildOutput) say(m buildMessage) error {
	text := m.Stream
	if m.Status != "" {
		if d := m.ProgressDetail; d.Total > 0 {
			if o.tell != nil {
				o.tell("docker: "+m.Status+" "+m.ID, d.Current, d.Total)
			}
			return nil
		}
		if text = m.Status + "\n"; m.ID != "" {
			text = m.ID + ": " + text
		}
	}
	if text == "" {
		return nil
	}
	if o.log != nil {
		if _, err := io.WriteString(o.log, text); err != nil {
			return wire.Errorf(wire.Unavailable, "writing the build's output: %w", err)
		}
	}
	o.end = append(o.end, text...)
	if len(o.end) > 2*keptBuildOutput {
		o.end = append(o.end[:0], o.end[len(o.end)-keptBuildOutput:]...)
	}
	return nil
}

// buildError is the error of a build that failed with what the daemon said. It
// is the Dockerfile's, unless a registry or the disk is to blame.
func buildError(said string, output []byte) error {
	code, hint := wire.Invalid, ""
	switch {
	case strings.Contains(said, "no space left on device"):
		code, hint = wire.Exhausted, "docker builder prune; docker image prune"
	case strings.HasPrefix(said, `Get "http`), strings.HasPrefix(said, "toomanyrequests"):
		code, hint = wire.Unavailable, "docker pull the image that FROM names, to see why"
	}
	if len(output) > keptBuildOutput {
		output = output[len(output)-keptBuildOutput:]
	}
	text := strings.TrimSpace(said)
	if end := strings.TrimSpace(strings.ToValidUTF8(string(output), "")); end != "" {
		text += "\n" + end
	}
	e := wire.Errorf(code, "%s", text)
	e.Hint = hint
	return e
}
