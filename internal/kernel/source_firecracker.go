package kernel

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// The Firecracker project publishes the guest kernels of its CI in an S3
// bucket: firecracker-ci/<date>-<commit>-<n>/<arch>/vmlinux-<version>, each
// with its .config beside it.
const fcPrefix = "firecracker-ci/"

var (
	fcRun    = regexp.MustCompile(`^firecracker-ci/(\d{8}-[0-9A-Za-z-]+|v\d+\.\d+)/$`)
	fcKernel = regexp.MustCompile(`/vmlinux-(\d+)\.(\d+)\.(\d+)$`)
)

// fcListing is the part of a ListObjectsV2 answer that is of use.
type fcListing struct {
	Prefixes []string `xml:"CommonPrefixes>Prefix"`
	Keys     []string `xml:"Contents>Key"`
	Next     string   `xml:"NextContinuationToken"`
}

// fromFirecracker gets the newest of them.
func fromFirecracker(ctx context.Context, o InstallOptions, cache, tmp string) (found, error) {
	keys, err := fcNewest(ctx, o)
	if err != nil {
		return found{}, err
	}
	key := keys[0]
	from := strings.TrimSuffix(o.FirecrackerURL, "/") + "/" + key
	f := found{source: from, image: filepath.Join(cache, cacheName(from))}
	if slices.Contains(keys, key+".config") {
		f.config = filepath.Join(tmp, "config")
		if err := Fetch(ctx, from+".config", f.config, o.fetchOptions("", "", 4<<20)); err != nil {
			return found{}, err
		}
		// Tens of MiB are not fetched just to be found unsuitable.
		b, err := os.ReadFile(f.config)
		if err != nil {
			return found{}, err
		}
		if err := lacking(where(nil, nil, b), o.Require, configured(b)["PVH"] == 'y'); err != nil {
			return found{}, wire.Errorf(wire.Invalid, "%s doesn't suit: %w", path.Base(key), err)
		}
	}
	return f, Fetch(ctx, from, f.image, o.fetchOptions(path.Base(key), "", maxVmlinux))
}

// fcNewest lists the newest run that has a kernel for us; the first key is
// that of its newest kernel.
func fcNewest(ctx context.Context, o InstallOptions) ([]string, error) {
	// A host without a way out should find that out soon: there are other sources.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	all, err := fcList(ctx, o, fcPrefix, "/")
	if err != nil {
		return nil, err
	}
	runs := slices.DeleteFunc(all.Prefixes, func(p string) bool { return !fcRun.MatchString(p) })
	slices.SortFunc(runs, newestRunFirst)
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[o.Arch]
	for _, run := range runs[:min(len(runs), 5)] {
		l, err := fcList(ctx, o, run+arch+"/vmlinux-", "")
		if err != nil {
			return nil, err
		}
		if newest := newestKernel(l.Keys); newest != "" {
			return append([]string{newest}, l.Keys...), nil
		}
	}
	return nil, wire.Errorf(wire.NotFound, "listing %s: no kernel for %s in it", o.FirecrackerURL, arch)
}

// newestRunFirst sorts dated runs before those of the old kind (v1.10).
func newestRunFirst(a, b string) int {
	if av, bv := strings.Contains(a, "/v"), strings.Contains(b, "/v"); av != bv {
		if av {
			return 1
		}
		return -1
	} else if av {
		return slices.Compare(numbers(b), numbers(a))
	}
	return cmp.Compare(b, a)
}

func newestKernel(keys []string) string {
	best := ""
	for _, k := range keys {
		if m := fcKernel.FindStringSubmatch(k); m != nil && (best == "" || slices.Compare(numbers(fcKernel.FindString(k)), numbers(fcKernel.FindString(best))) > 0) {
			best = k
		}
	}
	return best
}

var digits = regexp.MustCompile(`\d+`)

// numbers are those in s, to compare versions by.
func numbers(s string) []int {
	var out []int
	for _, d := range digits.FindAllString(s, -1) {
		n, _ := strconv.Atoi(d)
		out = append(out, n)
	}
	return out
}

// fcList lists a prefix, page by page.
func fcList(ctx context.Context, o InstallOptions, prefix, delimiter string) (fcListing, error) {
	var all fcListing
	for token, pages := "", 0; pages < 20; pages++ {
		q := url.Values{"list-type": {"2"}, "prefix": {prefix}}
		if delimiter != "" {
			q.Set("delimiter", delimiter)
		}
		if token != "" {
			q.Set("continuation-token", token)
		}
		var page fcListing
		if err := getXML(ctx, o, strings.TrimSuffix(o.FirecrackerURL, "/")+"/?"+q.Encode(), &page); err != nil {
			return all, fail(err, "listing %s", o.FirecrackerURL)
		}
		all.Prefixes = append(all.Prefixes, page.Prefixes...)
		all.Keys = append(all.Keys, page.Keys...)
		if token = page.Next; token == "" {
			break
		}
	}
	return all, nil
}

func getXML(ctx context.Context, o InstallOptions, from string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return wire.Errorf(wire.Invalid, "not a valid URL")
	}
	c := o.Client
	if c == nil {
		c = http.DefaultClient
	}
	resp, err := client(c).Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return (&statusError{resp.StatusCode, resp.Status}).wire()
	}
	err = xml.NewDecoder(io.LimitReader(resp.Body, 8<<20)).Decode(v)
	if err != nil && ctx.Err() == nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return wire.Errorf(wire.Unavailable, "the answer is no listing: %w", err)
	}
	if err != nil {
		return unreachable(err)
	}
	return nil
}

// cacheName names a download after what it is of, so that another kernel's
// unfinished one is never gone on with.
func cacheName(from string) string {
	sum := sha256.Sum256([]byte(from))
	return fmt.Sprintf("%s-%s", hex.EncodeToString(sum[:6]), path.Base(from))
}
