"""gRPC servicers, interceptors, validation, paging, and the JSON that REST shows."""
