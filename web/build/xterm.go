package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// xtermPlugin makes xterm.js work under a Content-Security-Policy that has no
// unsafe-inline: it writes its colours and sizes into style elements and a style
// attribute, which such a policy stops. The elements become ours, which adopt a
// constructed style sheet, and the attribute is set as a property. What isn't
// found exactly as often as expected is an error: look again at an upgrade.
func xtermPlugin(src string) api.Plugin {
	return api.Plugin{Name: "xterm", Setup: func(b api.PluginBuild) {
		b.OnLoad(api.OnLoadOptions{Filter: `@xterm/xterm/lib/xterm\.mjs$`}, func(a api.OnLoadArgs) (api.OnLoadResult, error) {
			code, err := os.ReadFile(a.Path)
			if err != nil {
				return api.OnLoadResult{}, err
			}
			text := string(code)
			for _, r := range []struct {
				old, new string
				count    int
			}{
				{`n.mainDocument.createElement("style")`, `bandsoxSheet()`, 1},
				{`this._document.createElement("style")`, `bandsoxSheet()`, 2},
				{`t.setAttribute("style",` + "`${t.getAttribute(\"style\")||\"\"}${e};`)", "t.style.cssText+=e+\";\"", 1},
				{`createElement("style")`, "", 0},
				{`setAttribute("style"`, "", 0},
				{`<style`, "", 0},
			} {
				if n := strings.Count(text, r.old); n != r.count {
					return api.OnLoadResult{}, fmt.Errorf("%s: %q is in it %d times, not %d", filepath.Base(a.Path), r.old, n, r.count)
				}
				text = strings.ReplaceAll(text, r.old, r.new)
			}
			text = `import {sheetElement as bandsoxSheet} from "` + filepath.ToSlash(filepath.Join(src, "sheet.ts")) + "\";\n" + text
			return api.OnLoadResult{Contents: &text, Loader: api.LoaderJS}, nil
		})
	}}
}
