package image

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// aptCarried are the settings of this host's apt that a build here needs to
// reach the mirrors. None of them weakens a signature.
var aptCarried = regexp.MustCompile(`^Acquire::((http|https)::(Proxy|CaInfo)|Check-Valid-Until|Check-Date|ForceIPv[46]|Retries)\b.* ".+";$`)

// aptOptions are the host's own settings to carry over, if it has apt.
func aptOptions(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return nil
	}
	var opts []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); aptCarried.MatchString(line) {
			opts = append(opts, line)
		}
	}
	return opts
}

// debianSources are the package sources to build from: the mirror that is named,
// else the host's own where it is a Debian, for they are known to work here.
func (o Options) debianSources() ([]string, error) {
	uris := strings.Fields(o.DebianMirror)
	if len(uris) == 0 {
		if s := hostSources("/etc"); s != nil {
			return s, nil
		}
		return nil, wire.Errorf(wire.Unavailable, "building from Debian's packages needs a mirror of them, and this host's apt names none").
			WithHint("BANDSOX_DEBIAN_MIRROR=URL bandsox image pull %s, where URL is that of a Debian archive", kindDebian)
	}
	for _, uri := range uris {
		if !(aptEntry{uri: uri, main: true}).usable() || len(uris) > 2 {
			return nil, wire.Errorf(wire.Invalid, "reading the Debian mirror %q: want the http or https URL of an archive, and after a space that of its security archive, without a password", o.DebianMirror)
		}
	}
	out := []string{"deb " + uris[0] + " " + debianSuite + " main", "deb " + uris[0] + " " + debianSuite + "-updates main"}
	if len(uris) == 2 {
		out = append(out, "deb "+uris[1]+" "+debianSuite+"-security main")
	}
	return out, nil
}

// DebianMirror is the mirror that this host's apt uses, and after a space that
// of the security archive, if it has one; "" where it is no Debian.
func DebianMirror() string {
	var main, security string
	for _, line := range hostSources("/etc") {
		switch f := strings.Fields(line); f[2] {
		case debianSuite:
			main = cmp.Or(main, f[1])
		case debianSuite + "-security":
			security = cmp.Or(security, f[1])
		}
	}
	return strings.TrimSpace(main + " " + security)
}

// hostSources are those of the host whose etc this is; nil if it is no Debian.
func hostSources(etc string) []string {
	b, err := os.ReadFile(filepath.Join(etc, "os-release"))
	if release := osRelease(b); err == nil && release["ID"] == "debian" {
		return debianSources(filepath.Join(etc, "apt"), release["VERSION_CODENAME"])
	}
	return nil
}

func osRelease(b []byte) map[string]string {
	out := map[string]string{}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), "="); ok {
			out[k] = strings.Trim(v, `"'`)
		}
	}
	return out
}

// debianSources reads apt's configuration for the mirrors of Debian itself:
// those of codename and its updates. nil when it doesn't name the main one.
func debianSources(dir, codename string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "sources.list.d", "*"))
	var out []string
	whole := false
	for _, path := range append([]string{filepath.Join(dir, "sources.list")}, files...) {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var entries []aptEntry
		switch filepath.Ext(path) {
		case ".list":
			entries = oneLineEntries(b)
		case ".sources":
			entries = deb822Entries(b)
		}
		for _, e := range entries {
			suffix, ok := strings.CutPrefix(e.suite, codename)
			if !ok || codename == "" || !e.usable() || suffix != "" && suffix != "-updates" && suffix != "-security" {
				continue
			}
			whole = whole || suffix == ""
			out = append(out, "deb "+e.uri+" "+debianSuite+suffix+" main")
		}
	}
	if !whole {
		return nil
	}
	return out
}

// aptEntry is one suite at one place.
type aptEntry struct {
	uri, suite string
	main       bool
}

// usable leaves out the sources of others, local media, and those with a
// password: they would end up in the image.
func (e aptEntry) usable() bool {
	web := strings.HasPrefix(e.uri, "http://") || strings.HasPrefix(e.uri, "https://")
	return web && e.main && !strings.Contains(e.uri, "@")
}

func oneLineEntries(b []byte) []aptEntry {
	var out []aptEntry
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		if rest = strings.TrimSpace(rest); strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		if f := strings.Fields(rest); len(f) > 2 {
			out = append(out, aptEntry{uri: f[0], suite: f[1], main: slices.Contains(f[2:], "main")})
		}
	}
	return out
}

func deb822Entries(b []byte) []aptEntry {
	var out []aptEntry
	for stanza := range strings.SplitSeq(string(b), "\n\n") {
		field := map[string]string{}
		for line := range strings.Lines(stanza) {
			if k, v, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, " ") {
				field[strings.ToLower(k)] = strings.TrimSpace(v)
			}
		}
		if strings.EqualFold(field["enabled"], "no") || !slices.Contains(strings.Fields(field["types"]), "deb") {
			continue
		}
		for _, uri := range strings.Fields(field["uris"]) {
			for _, suite := range strings.Fields(field["suites"]) {
				out = append(out, aptEntry{uri: uri, suite: suite, main: slices.Contains(strings.Fields(field["components"]), "main")})
			}
		}
	}
	return out
}
