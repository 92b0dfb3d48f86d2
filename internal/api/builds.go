package api

import (
	"net/url"
	"slices"

	"github.com/bandsox/bandsox"
)

// BuildLog is what a build says: an event of its stream.
type BuildLog struct {
	Text string `json:"text"`
}

// BuildQuery is how a client asks for what o says, but for its files. file is
// the Dockerfile's path among them.
func BuildQuery(o bandsox.BuildOptions, file string) url.Values {
	q := url.Values{"dockerfile": {file}}
	for name, value := range map[string]string{"tag": o.Tag, "target": o.Target} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, on := range map[string]bool{"no_cache": o.NoCache, "pull": o.Pull} {
		if on {
			q.Set(name, "true")
		}
	}
	for k, v := range o.Args {
		q.Add("build_arg", k+"="+v)
	}
	slices.Sort(q["build_arg"])
	return q
}
