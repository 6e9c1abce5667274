package service

import (
	"fmt"
	"maps"
	"slices"

	"github.com/umbra-vss/umbra/internal/service/async"
)

// FillOperations takes n places for operations, or gives them back.
func (s *Service) FillOperations(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range max(n, -n) {
		if id := fmt.Sprint("filler", i); n > 0 {
			s.operations[id] = &async.Operation{}
		} else {
			delete(s.operations, id)
		}
	}
}

// Operations counts the operations that are kept.
func (s *Service) Operations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.operations)
}

// Remembered counts the operations that sessions remember to have started.
func (s *Service) Remembered() (n int) {
	s.mu.Lock()
	open := slices.Collect(maps.Values(s.sessions))
	s.mu.Unlock()
	for _, o := range open {
		o.mu.Lock()
		n += len(o.operations)
		o.mu.Unlock()
	}
	return n
}

// OpenForTest opens an object without a lease and returns its token.
func (s *Service) OpenForTest() (token string, err error) {
	o, err := s.openObject("test", 0)
	if err != nil {
		return "", err
	}
	return o.token, nil
}

// CloseForTest releases it and waits until that is done.
func (s *Service) CloseForTest(token string) {
	s.mu.Lock()
	o := s.sessions[token]
	s.mu.Unlock()
	if o != nil {
		s.releaseObject(o)
		<-o.gone
	}
}

// CheckBounds is what a request is held to before its handler sees it.
var CheckBounds = checkBounds
