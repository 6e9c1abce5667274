module github.com/umbra-vss/umbra/examples/reflink

go 1.26.0

require (
	github.com/umbra-vss/umbra v0.0.0
	golang.org/x/sys v0.49.0
)

require (
	connectrpc.com/connect v1.21.1 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/pelletier/go-toml/v2 v2.4.3 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/umbra-vss/umbra => ../..
