package server

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

// The documentation of the raw routes about files.

func docParams(op *huma.Operation, more ...*huma.Param) {
	op.Parameters = append(op.Parameters, vmParam(), param("path", aString, true, "The file's path in the sandbox"))
	op.Parameters = append(op.Parameters, more...)
}

func docAnswer(op *huma.Operation, status, kind string, schema *huma.Schema) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses[status] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{kind: {Schema: schema}}}
}

func docBody(op *huma.Operation, kind string, schema *huma.Schema) {
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{kind: {Schema: schema}}}
}

func schemaOf[T any](r huma.Registry, hint string) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, hint)
}

func readFileDoc(op *huma.Operation, _ huma.Registry) {
	docParams(op)
	docAnswer(op, "200", "application/json", &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"path": aString, "content": aString}, Required: []string{"path", "content"}})
}

func writeFileDoc(op *huma.Operation, r huma.Registry) {
	op.Parameters = append(op.Parameters, vmParam())
	docBody(op, "application/json", schemaOf[api.WriteFile](r, "WriteFile"))
	docAnswer(op, "200", "application/json", &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"status": aString, "path": aString}, Required: []string{"status", "path"}})
}

func uploadDoc(op *huma.Operation, _ huma.Registry) {
	op.Parameters = append(op.Parameters, vmParam())
	docBody(op, "multipart/form-data", &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"remote_path": aString, "file": bytesSchema}, Required: []string{"remote_path", "file"}})
	docAnswer(op, "200", "application/json", &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"status": aString, "path": aString}, Required: []string{"status", "path"}})
}

func fileDoc(op *huma.Operation, _ huma.Registry) {
	docParams(op)
	docAnswer(op, "200", "application/octet-stream", bytesSchema)
	docAnswer(op, "206", "application/octet-stream", bytesSchema)
	op.Responses["304"] = &huma.Response{Description: "It is the one that If-None-Match or If-Modified-Since tells of"}
}

func inlineDoc(op *huma.Operation, r huma.Registry) {
	fileDoc(op, r)
	op.Parameters = append(op.Parameters, param("inline", aBool, false, "Let a browser show it, if it is a picture or text"))
}

func putDoc(op *huma.Operation, r huma.Registry) {
	docParams(op, param("mode", &huma.Schema{Type: huma.TypeString, Pattern: "^[0-7]{1,5}$"}, false, "In octal: 644, which it is if not given, or what the file had"),
		param("owner", aString, false, "name, uid, name:group or uid:gid; root if not given, or what the file had"))
	if op.Method == "PUT" {
		op.Parameters = append(op.Parameters, param("partial", aString, false, "A name of up to 64 letters and digits for what is sent: what comes of it is kept if it breaks off"),
			param("offset", anInt, false, "With partial: where in the file the body begins"))
	}
	docBody(op, "application/octet-stream", bytesSchema)
	docAnswer(op, "200", "application/json", schemaOf[api.Written](r, "Written"))
}

func getTreeDoc(op *huma.Operation, _ huma.Registry) {
	docParams(op, param("gzip", aBool, false, "Compress it"), param("follow", aBool, false, "If the path is a symlink, what it leads to"),
		param("name", aString, false, "What the tree is called in the archive"), param("max_bytes", anInt, false, "Fail beyond so many bytes of content"),
		param("max_entries", anInt, false, "Fail beyond so many files"))
	docAnswer(op, "200", "application/x-tar", bytesSchema)
	op.Responses["200"].Content["application/gzip"] = &huma.MediaType{Schema: bytesSchema}
}

func putTreeDoc(op *huma.Operation, r huma.Registry) {
	docParams(op, param("own", aBool, false, "Keep the archive's owners; else all is root's"), param("gzip", aBool, false, "It is compressed"),
		param("max_bytes", anInt, false, "Refuse an archive of more bytes"))
	docBody(op, "application/x-tar", bytesSchema)
	docAnswer(op, "200", "application/json", schemaOf[api.Written](r, "Written"))
}

func findDoc(op *huma.Operation, r huma.Registry) {
	list := &huma.Schema{Type: huma.TypeArray, Items: aString}
	docParams(op, param("depth", anInt, false, "1: only what is in the directory itself; 0: all"), param("include", list, false, "Patterns: only what one of them matches"),
		param("exclude", list, false, "Patterns: neither these nor what is in them"), param("type", aString, false, "Only files of this type"),
		param("skip_hidden", aBool, false, "No names that begin with a dot"))
	docAnswer(op, "200", "application/x-ndjson", schemaOf[bandsox.Stat](r, "Stat"))
}

func searchDoc(op *huma.Operation, r huma.Registry) {
	op.Parameters = append(op.Parameters, vmParam())
	docBody(op, "application/json", schemaOf[api.Search](r, "Search"))
	docAnswer(op, "200", "application/x-ndjson", schemaOf[bandsox.Match](r, "Match"))
}

func watchDoc(op *huma.Operation, _ huma.Registry) {
	docParams(op, param("recursive", aBool, false, "Directories below too"))
	docAnswer(op, "200", "text/event-stream", aString)
}
