package guest

import (
	"reflect"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	testPasswd = "root:x:0:0:root:/root:/bin/sh\n# comment\n\nbroken\nbad:x:no:1::/:\n" +
		"ann:x:1000:1001:Ann,,,:/home/ann:/bin/bash\n12:x:500:501::/twelve:\nnohome:x:7:7\n  spaced:x:8:8::/spaced:/bin/sh  \n"
	testGroup = "root:x:0:\nwheel:x:10:ann, bob\naudio:x:29:ann\nann:x:1001:ann\nbad:x:-1:ann\nshort:x\n"
)

func TestLookupUser(t *testing.T) {
	for _, c := range []struct {
		spec string
		want ident
	}{
		{"", ident{0, 0, []uint32{0}, "/root"}},
		{"root", ident{0, 0, []uint32{0}, "/root"}},
		{"ann", ident{1000, 1001, []uint32{1001, 10, 29}, "/home/ann"}},
		{"1000", ident{1000, 1001, []uint32{1001, 10, 29}, "/home/ann"}},
		{"ann:wheel", ident{1000, 10, []uint32{10}, "/home/ann"}},
		{"ann:77", ident{1000, 77, []uint32{77}, "/home/ann"}},
		{"1000:1001", ident{1000, 1001, []uint32{1001}, "/home/ann"}},
		{"12", ident{500, 501, []uint32{501}, "/twelve"}}, // a name that is a number is a name first
		{"4242", ident{4242, 0, []uint32{0}, "/"}},
		{"4242:wheel", ident{4242, 10, []uint32{10}, "/"}},
		{"nohome", ident{7, 7, []uint32{7}, "/"}},
		{"spaced", ident{8, 8, []uint32{8}, "/spaced"}},
	} {
		got, err := lookupUser(c.spec, []byte(testPasswd), []byte(testGroup))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v, want %+v", c.spec, got, err, c.want)
		}
	}
	for _, spec := range []string{"bob", "bad", ":", ":wheel", "ann:", "ann:nogroup", "-1", "4294967295", "99999999999", "ann:short"} {
		if id, err := lookupUser(spec, []byte(testPasswd), []byte(testGroup)); wire.CodeOf(err) != wire.Invalid {
			t.Errorf("%q: %+v, %v", spec, id, err)
		}
	}
	if id, err := lookupUser("", nil, nil); err != nil || id.home != "/" || id.uid != 0 {
		t.Errorf("without /etc/passwd: %+v, %v", id, err)
	}
}

func FuzzLookupUser(f *testing.F) {
	f.Add("ann", testPasswd, testGroup)
	f.Add("1000:wheel", testPasswd, testGroup)
	f.Add("a", "a:::\na:x:1:2", "g:x:3:a,a,a\n:::a")
	f.Add("0:", "\x00:\xff", ":")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		id, err := lookupUser(spec, []byte(passwd), []byte(group))
		switch {
		case err != nil && wire.CodeOf(err) != wire.Invalid:
			t.Errorf("error %v", err)
		case err != nil:
		case id.uid == 1<<32-1 || id.gid == 1<<32-1:
			t.Error("an id that means no change")
		case id.home == "" || len(id.groups) > maxGroups:
			t.Errorf("%+v", id)
		case len(id.groups) == 0 || id.groups[0] != id.gid:
			t.Errorf("its group is not among the supplementary ones: %+v", id)
		case strings.Contains(spec, ":") && len(id.groups) > 1:
			t.Errorf("supplementary groups beside one that was asked for: %+v", id)
		}
	})
}
