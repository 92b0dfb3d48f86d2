package kernel

import (
	"bufio"
	"io"
	"regexp"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// paragraph is one of Debian's control paragraphs: field → value, the value's
// further lines after a newline each.
type paragraph map[string]string

// paragraphs reads them one after the other and gives each to visit.
func paragraphs(r io.Reader, visit func(paragraph) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), 4<<20)
	p, field := paragraph{}, ""
	flush := func() error {
		if len(p) == 0 {
			return nil
		}
		done := p
		p, field = paragraph{}, ""
		return visit(done)
	}
	for sc.Scan() {
		line := strings.TrimRight(sc.Text(), " \t\r")
		switch {
		case line == "":
			if err := flush(); err != nil {
				return err
			}
		case line[0] == ' ' || line[0] == '\t':
			if field != "" {
				p[field] += "\n" + strings.TrimSpace(line)
			}
		default:
			if k, v, ok := strings.Cut(line, ":"); ok {
				field = k
				p[k] = strings.TrimSpace(v)
			}
		}
	}
	if err := sc.Err(); err != nil {
		return err
	}
	return flush()
}

// metaPackage depends on the newest cloud kernel: one with drivers for virtual
// machines only, a tenth of the usual size.
func metaPackage(arch string) string { return "linux-image-cloud-" + arch }

// kernelPackage matches those whose files make up a kernel: newer releases may
// split the modules off.
var kernelPackage = regexp.MustCompile(`^linux-(image|modules|binary)-[0-9a-z.+-]+$`)

// newest is the paragraph of pkg with the highest version.
func newest(r io.Reader, pkg string) (paragraph, error) {
	var best paragraph
	err := paragraphs(r, func(p paragraph) error {
		if p["Package"] == pkg && (best == nil || compareVersions(p["Version"], best["Version"]) > 0) {
			best = p
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if best == nil {
		return nil, noPackage(pkg)
	}
	return best, nil
}

func noPackage(pkg string) error {
	return wire.Errorf(wire.NotFound, "there is no package %s", pkg)
}

// closure follows the dependencies of meta to the packages with the kernel's
// files, the image first. look gives a package's paragraph.
func closure(meta string, look func(pkg string) (paragraph, error)) ([]paragraph, error) {
	var out []paragraph
	seen := map[string]bool{}
	for queue := []string{meta}; len(queue) > 0; queue = queue[1:] {
		pkg := queue[0]
		if seen[pkg] || len(seen) >= 16 {
			continue
		}
		seen[pkg] = true
		p, err := look(pkg)
		if err != nil {
			return nil, err
		}
		if pkg != meta {
			out = append(out, p)
		}
		queue = append(queue, kernelDepends(p["Depends"])...)
	}
	if len(out) == 0 {
		return nil, wire.Errorf(wire.NotFound, "the package %s names no kernel", meta)
	}
	return out, nil
}

// kernelDepends picks kernel packages from a Depends field.
func kernelDepends(depends string) []string {
	var out []string
	for _, d := range strings.Split(depends, ",") {
		first, _, _ := strings.Cut(d, "|")
		name, _, _ := strings.Cut(strings.TrimSpace(first), " ")
		name, _, _ = strings.Cut(name, ":")
		if kernelPackage.MatchString(name) {
			out = append(out, name)
		}
	}
	return out
}

// compareVersions is dpkg's order of versions: [epoch:]upstream[-revision].
func compareVersions(a, b string) int {
	ae, au, ar := splitVersion(a)
	be, bu, br := splitVersion(b)
	for _, pair := range [][2]string{{ae, be}, {au, bu}, {ar, br}} {
		if c := compareParts(pair[0], pair[1]); c != 0 {
			return c
		}
	}
	return 0
}

func splitVersion(v string) (epoch, upstream, revision string) {
	epoch, rest, ok := strings.Cut(v, ":")
	if !ok {
		epoch, rest = "0", v
	}
	if i := strings.LastIndexByte(rest, '-'); i >= 0 {
		return epoch, rest[:i], rest[i+1:]
	}
	return epoch, rest, ""
}

// compareParts takes runs of non-digits (~ before the end before letters before
// the rest) and of digits (as numbers) in turn.
func compareParts(a, b string) int {
	weight := func(s string, i int) int {
		switch {
		case i >= len(s) || s[i] >= '0' && s[i] <= '9':
			return 0
		case s[i] == '~':
			return -1
		case s[i] >= 'A' && s[i] <= 'Z' || s[i] >= 'a' && s[i] <= 'z':
			return int(s[i])
		}
		return int(s[i]) + 256
	}
	run := func(s string, digit bool) int {
		i := 0
		for i < len(s) && (s[i] >= '0' && s[i] <= '9') == digit {
			i++
		}
		return i
	}
	for a != "" || b != "" {
		na, nb := run(a, false), run(b, false)
		for i := range max(na, nb) {
			if c := weight(a[:na], i) - weight(b[:nb], i); c != 0 {
				return c
			}
		}
		a, b = a[na:], b[nb:]
		na, nb = run(a, true), run(b, true)
		x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		a, b = a[na:], b[nb:]
	}
	return 0
}
