package image

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Config is how an image wants to be run.
type Config struct {
	Env          []string          `json:"env,omitempty"` // NAME=value
	WorkingDir   string            `json:"working_dir,omitempty"`
	User         string            `json:"user,omitempty"` // user[:group], names or numbers
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	StopSignal   string            `json:"stop_signal,omitempty"`   // a name or a number
	ExposedPorts []string          `json:"exposed_ports,omitempty"` // 80/tcp, sorted
	Volumes      []string          `json:"volumes,omitempty"`       // paths, sorted
}

// Command is what to run for args, by docker's rule: the entrypoint, then args
// or, when there are none, the image's own command. It is empty when the image
// says nothing either.
func (c Config) Command(args []string) []string {
	if len(args) == 0 {
		args = c.Cmd
	}
	return append(slices.Clone(c.Entrypoint), args...)
}

// wordList is a list of strings that docker once also wrote as one string.
type wordList []string

func (w *wordList) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		*w = nil
		if one != "" {
			*w = wordList{one}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

// runConfig is the part of a config that docker's API and OCI share. Only what
// is used is decoded, so that an odd value elsewhere does no harm.
type runConfig struct {
	Env          []string
	WorkingDir   string
	User         string
	Entrypoint   wordList
	Cmd          wordList
	Labels       map[string]string
	StopSignal   string
	ExposedPorts map[string]json.RawMessage
	Volumes      map[string]json.RawMessage
}

func (c runConfig) config() Config {
	return Config{
		Env: variables(c.Env), WorkingDir: c.WorkingDir, User: c.User,
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Labels: c.Labels, StopSignal: c.StopSignal,
		ExposedPorts: slices.Sorted(maps.Keys(c.ExposedPorts)),
		Volumes:      slices.Sorted(maps.Keys(c.Volumes)),
	}
}

// variables is env without the entries that set nothing: docker runs images
// that have a NAME without a value, or a value without a name.
func variables(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		return strings.Index(kv, "=") < 1 || strings.Contains(kv, "\x00")
	})
}

// configFile is an image's config blob.
type configFile struct {
	OS           string    `json:"os"`
	Architecture string    `json:"architecture"`
	Variant      string    `json:"variant"`
	Config       runConfig `json:"config"`
	RootFS       struct {
		DiffIDs []v1.Hash `json:"diff_ids"`
	} `json:"rootfs"`
}

// parseConfig reads a config blob and checks that it is for want.
func parseConfig(raw []byte, want v1.Platform) (*configFile, error) {
	var c configFile
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, wire.Errorf(wire.Invalid, "reading image config: %w", err)
	}
	if err := checkPlatform(c.OS, c.Architecture, want); err != nil {
		return nil, err
	}
	return &c, nil
}

// checkPlatform accepts an image that says nothing: old tools wrote those.
func checkPlatform(os, arch string, want v1.Platform) error {
	if (os == "" || os == want.OS) && (arch == "" || arch == want.Architecture) {
		return nil
	}
	return wire.Errorf(wire.NotFound, "the image is for %s/%s, wanted is %s", os, arch, want).
		WithHint("use an image that is built for %s", want)
}

// layerIDs pairs the layers of an image with the digests of their content.
func (c *configFile) layerIDs(layers int) ([]v1.Hash, error) {
	ids := c.RootFS.DiffIDs
	if len(ids) != layers {
		return nil, wire.Errorf(wire.Invalid, "reading image config: it names %d layers, the manifest %d", len(ids), layers)
	}
	if layers > maxLayers {
		return nil, wire.Errorf(wire.Invalid, "reading image config: %d layers, at most %d are allowed", layers, maxLayers)
	}
	for i, id := range ids {
		if _, err := v1.Hasher(id.Algorithm); err != nil {
			return nil, wire.Errorf(wire.Invalid, "reading image config: layer %d: %w", i+1, err)
		}
	}
	return ids, nil
}

// maxLayers is far above the 127 of docker's own limit.
const maxLayers = 512
