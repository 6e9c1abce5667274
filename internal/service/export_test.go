package service

import (
	"fmt"

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
