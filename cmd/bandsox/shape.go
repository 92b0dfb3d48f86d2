package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// shapes are the global flags that shape a manager: they count for the server
// that a command starts, and nothing can come of them where one runs already.
type shape struct {
	name   string
	values []string
}

func (a *app) shapes() []shape {
	return []shape{
		{"driver", some(a.driver)}, {"accel", some(a.accel)}, {"agent", some(absolute(a.agent))}, {"mem-overcommit", some(a.memory)},
		{"registry-mirror", a.mirrors}, {"insecure-registry", a.insecure}, {"registry-ca", absoluteAll(a.caFiles)},
	}
}

// managerFlags are those of them that have a value, for another command line.
func (a *app) managerFlags() (args []string) {
	for _, f := range a.shapes() {
		for _, v := range f.values {
			args = append(args, "--"+f.name+"="+v)
		}
	}
	return args
}

// shaped fails if a flag was given, on the command line, that the server which
// runs was started without. What comes from the environment is a default, for
// the servers that are started.
func (a *app) shaped(server client.Version) error {
	for _, f := range a.shapes() {
		for _, v := range f.values {
			arg := "--" + f.name + "=" + v
			if !a.given(f.name) || slices.Contains(server.Settings, arg) || f.name == "driver" && v == server.Driver {
				continue
			}
			why := fmt.Errorf("the server that runs was started without %s", arg)
			if f.name == "driver" {
				why = fmt.Errorf("the server that runs has the driver %s, not %s", server.Driver, v)
			}
			return &bandsox.Error{Code: bandsox.CodeConflict, Err: why,
				Hint: strings.Join(slices.Concat([]string{"bandsox"}, a.addressFlags(), []string{"serve", "--stop"}), " ") + "; the next command starts another, and sandboxes go on"}
		}
	}
	return nil
}

// shapesNothing fails if a flag was given that a server elsewhere can't heed.
func (a *app) shapesNothing(url string) error {
	if a.given("storage") {
		return usageError("--storage names the server by its state directory, and %s by its address: give one of them (BANDSOX_URL counts as given)", url)
	}
	for _, f := range a.shapes() {
		if len(f.values) > 0 && a.given(f.name) {
			return &bandsox.Error{Code: bandsox.CodeInvalid, Err: fmt.Errorf("--%s shapes a server when it starts, and the one at %s runs already", f.name, url),
				Hint: "there: bandsox --" + f.name + " " + shellQuote(f.values[0]) + " serve"}
		}
	}
	return nil
}

// given reports whether a global flag is on the command line.
func (a *app) given(name string) bool { return a.flags != nil && a.flags.Changed(name) }

func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// absolute is path as it is found from everywhere.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func absoluteAll(paths []string) (list []string) {
	for _, p := range paths {
		list = append(list, absolute(p))
	}
	return list
}
