// Package remote lets a provider be a program of its own.
//
// Whoever writes one implements the interfaces of package provider and calls
// [Serve] in main:
//
//	func main() {
//		if err := remote.Serve(context.Background(), myProvider{}); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// A [Manifest], a TOML file, says who the provider is and how it is started.
// `umbra provider register` hands it to the service, which starts the program
// when it is first needed, ends it when it has been idle, and calls it over a
// unix socket that is the service's own: the program gets it as descriptor 3.
//
// [Proxy] is the service's side. To the service it is a provider like any other.
// What may go wrong with somebody else's program goes wrong there: every call
// has a deadline, every answer is checked, and a program that dies, hangs or
// talks nonsense is ended, told of in an event, and costs its own set only.
package remote
