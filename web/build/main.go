// Command build makes web/dist, which the server embeds, of web/src and the npm
// packages that build/package.json names. It links esbuild's Go package, so a
// module of its own keeps that out of ours. With -out it writes elsewhere: a
// test compares that with what is committed.
package main

import (
	"crypto/sha256"
	"encoding/base32"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("web", "..", "the directory of the sources")
	out := flag.String("out", "", "where to write (default: dist beside the sources)")
	flag.Parse()
	if *out == "" {
		*out = filepath.Join(*dir, "dist")
	}
	if err := build(*dir, *out); err != nil {
		log.Fatal("web/build: ", err)
	}
}

func build(dir, out string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	src := filepath.Join(dir, "src")
	result := api.Build(api.BuildOptions{
		AbsWorkingDir: src,
		EntryPoints:   []string{"app.tsx", "app.css"},
		EntryNames:    "[name]-[hash]",
		ChunkNames:    "[name]-[hash]",
		Outdir:        out,
		Bundle:        true,
		Splitting:     true,
		Format:        api.FormatESModule,
		Platform:      api.PlatformBrowser,
		Target:        api.ES2022,
		NodePaths:     []string{filepath.Join(dir, "build", "node_modules")},

		JSX:               api.JSXAutomatic,
		JSXImportSource:   "preact",
		MinifyWhitespace:  true,
		MinifySyntax:      true,
		MinifyIdentifiers: true,
		LineLimit:         400, // so that a diff of the bundle can be read
		Charset:           api.CharsetASCII,
		LegalComments:     api.LegalCommentsEndOfFile,
		LogLevel:          api.LogLevelWarning,
		Plugins:           []api.Plugin{xtermPlugin(src)},
	})
	if len(result.Errors) > 0 {
		return fmt.Errorf("%d errors", len(result.Errors))
	}
	files := map[string][]byte{}
	page := map[string]string{}
	for _, f := range result.OutputFiles {
		name := filepath.Base(f.Path)
		files[name] = trim(f.Contents)
		if strings.HasPrefix(name, "app-") {
			page["app"+filepath.Ext(name)] = name
		}
	}
	for _, name := range []string{"theme.js", "icon.svg"} {
		b, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			return err
		}
		ext := filepath.Ext(name)
		hashed := strings.TrimSuffix(name, ext) + "-" + hash(b) + ext
		files[hashed], page[name] = b, hashed
	}
	html, err := os.ReadFile(filepath.Join(src, "index.html"))
	if err != nil {
		return err
	}
	text := string(html)
	for name, hashed := range page {
		with := strings.ReplaceAll(text, `"/static/`+name+`"`, `"/static/`+hashed+`"`)
		if with == text {
			return fmt.Errorf("index.html doesn't name /static/%s", name)
		}
		text = with
	}
	files["index.html"] = []byte(text)
	return write(out, files)
}

// trim takes away what the tree's rules don't allow in a text: spaces at a
// line's end, which are in no string there.
func trim(b []byte) []byte {
	var s strings.Builder
	for line := range strings.Lines(string(b)) {
		s.WriteString(strings.TrimRight(line, " \t\n"))
		s.WriteByte('\n')
	}
	return []byte(s.String())
}

// hash is as esbuild writes its own.
func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return base32.StdEncoding.EncodeToString(sum[:5])
}

// write makes files all that is in dir.
func write(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range old {
		if _, keep := files[e.Name()]; !keep {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
