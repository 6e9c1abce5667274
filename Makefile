.PHONY: generate
# generate remakes the Go code of proto/ (committed, so that building needs no generator).
generate:
	go tool -modfile=tools/go.mod buf lint
	go tool -modfile=tools/go.mod buf generate
