package server

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// maxDockerfile is the limit of one that comes in a form.
const maxDockerfile = 1 << 20

func (s *Server) createFromDockerfile(w http.ResponseWriter, r *http.Request) error {
	if err := allowBuild(r.Context()); err != nil {
		return err
	}
	form, err := r.MultipartReader()
	if err != nil {
		return invalid("the body must be a form: %w", err)
	}
	f, err := readDockerfileForm(form)
	if err != nil {
		return err
	}
	ctx, cancel := s.building(r)
	defer cancel()
	img, err := s.m.Build(ctx, bandsox.BuildOptions{Dockerfile: bytes.NewReader(f.dockerfile), Tag: f.tag, NoCache: f.rebuild})
	if err != nil {
		return err
	}
	// The digest is this build's; the name, which people would rather see, may
	// be another one's by now.
	f.vm.Image = img.Digest
	if named, err := s.m.Image(ctx, f.tag); f.tag != "" && err == nil && named.Digest == img.Digest {
		f.vm.Image = f.tag
	}
	sb, err := s.create(ctx, f.vm)
	if err != nil {
		return err
	}
	return writeJSON(w, api.Created{ID: sb.ID(), Status: "created"})
}

// dockerfileForm is the reference's form.
type dockerfileForm struct {
	dockerfile []byte
	tag        string
	rebuild    bool
	vm         api.CreateVM
}

// readDockerfileForm takes the parts in any order. What is empty is as if it
// weren't there, and what the reference has no name for is left aside.
func readDockerfileForm(form *multipart.Reader) (f dockerfileForm, err error) {
	f.vm.VCPU, f.vm.MemMiB, f.vm.DiskSizeMiB = bandsox.DefaultVCPU, bandsox.DefaultMemMiB, bandsox.DefaultDiskSizeMiB
	found := false
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return f, invalid("reading the form: %w", err)
		}
		if part.FormName() != "dockerfile" {
			if err := f.field(part); err != nil {
				return f, err
			}
			continue
		}
		if f.dockerfile, err = io.ReadAll(io.LimitReader(part, maxDockerfile+1)); err != nil {
			return f, err
		}
		if len(f.dockerfile) > maxDockerfile {
			return f, &tooMuch{invalid("dockerfile: more than %d bytes", maxDockerfile)}
		}
		found = true
	}
	if !found {
		return f, missing("body", "dockerfile")
	}
	return f, nil
}

func (f *dockerfileForm) field(part *multipart.Part) error {
	name := part.FormName()
	text, err := formField(part)
	if err != nil || text == "" {
		return err
	}
	number := func(to *int) error {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return badField(name, "must be a whole number")
		}
		*to = n
		return nil
	}
	object := func(to any) error {
		if err := json.Unmarshal([]byte(text), to); err != nil {
			return badField(name, "must be a JSON object: "+err.Error())
		}
		return nil
	}
	switch name {
	case "tag":
		f.tag = text
	case "name":
		f.vm.Name = text
	case "vcpu":
		return number(&f.vm.VCPU)
	case "mem_mib":
		return number(&f.vm.MemMiB)
	case "disk_size_mib":
		return number(&f.vm.DiskSizeMiB)
	case "env_vars":
		return object(&f.vm.Env)
	case "metadata":
		return object(&f.vm.Metadata)
	case "force_rebuild":
		switch strings.ToLower(text) { // what Python takes for one or the other
		case "true", "1", "on", "yes", "y", "t":
			f.rebuild = true
		case "false", "0", "off", "no", "n", "f":
		default:
			return badField(name, "must be true or false")
		}
	}
	return nil
}

// badField is what is wrong with a field of a form, as the reference says it.
func badField(name, why string) error {
	return &api.Error{Detail: api.Detail{Problems: []api.Problem{{Loc: []any{"body", name}, Msg: why, Type: "value_error"}}},
		Code: wire.Invalid, Status: http.StatusUnprocessableEntity}
}

func fromDockerfileDoc(op *huma.Operation, schemas huma.Registry) {
	number := func(by int) *huma.Schema { return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Default: by} }
	docBody(op, "multipart/form-data", &huma.Schema{Type: huma.TypeObject, Required: []string{"dockerfile"}, Properties: map[string]*huma.Schema{
		"dockerfile": {Type: huma.TypeString, Format: "binary", Description: "A file"},
		"tag":        {Type: huma.TypeString, Description: "The image's name; none: it goes by its digest"},
		"name":       {Type: huma.TypeString, Description: "The sandbox's"},
		"vcpu":       number(bandsox.DefaultVCPU), "mem_mib": number(bandsox.DefaultMemMiB), "disk_size_mib": number(bandsox.DefaultDiskSizeMiB),
		"force_rebuild": {Type: huma.TypeBoolean, Default: false, Description: "Do every step anew"},
		"env_vars":      {Type: huma.TypeObject, AdditionalProperties: aString, Description: "As JSON"}, "metadata": {Type: huma.TypeObject, AdditionalProperties: true, Description: "As JSON"},
	}})
	op.Responses = jsonResponse[api.Created](schemas, "The sandbox")
}
