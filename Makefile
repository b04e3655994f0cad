# All that happens here is in etc/setup/, in scripts of a page each.
.DEFAULT_GOAL := help
.PHONY: help run etcd test unit bench bench-cluster bench-output check lint format lock changelog build clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\)[a-z ]*:.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '%-21s %s\n' "$$name" "$$text"; done
	@echo
	@echo "make run takes HOST_ID, LISTEN, EXTERNAL, STATE_DIR, ETCD and ARGS, as in: make run HOST_ID=h1"
	@echo "make etcd, then make run N=1, make run N=2, ... in terminals of their own try out a cluster"

run: ## Set up this machine and run a cluster of one host on it; N=1, N=2, ... for one of several
	@etc/setup/run.sh

etcd: ## Set up and run an etcd that clusters can be tried out with
	@etc/setup/etcd.sh

test: ## Set up this machine for tests, then run the linters and every test
	@etc/setup/test.sh all

unit: ## Run the tests that are quick and need nothing but Python
	@etc/setup/test.sh unit

bench: ## Measure how quickly jobs start, beside Docker alone and Swarm, as root; ARGS=--quick for less
	@etc/setup/test.sh setup
	@etc/setup/packages.sh --no-services dockerd=docker.io ip=iproute2 /bin/busybox=busybox-static
	@.venv/bin/python -m benchmarks.start_jobs $(ARGS)

bench-cluster: ## Measure how quickly a leader commits jobs to simulated hosts; ARGS=--quick for less
	@etc/setup/test.sh setup
	@.venv/bin/python -m benchmarks.commit_jobs --report .run/bench-cluster.md $(ARGS)

bench-output: ## Measure how quickly jobs' output is read, beside Docker's own ways, as root; ARGS=--quick for less
	@etc/setup/test.sh setup
	@etc/setup/packages.sh --no-services dockerd=docker.io ip=iproute2 /bin/busybox=busybox-static
	@.venv/bin/python -m benchmarks.read_output --report .run/bench-output.md $(ARGS)

lint check: ## Run the linters only
	@etc/setup/test.sh lint

format: ## Put the code into its one format
	@etc/setup/test.sh setup
	@.venv/bin/ruff check --fix --select I .
	@.venv/bin/ruff format .

lock: ## Resolve the dependencies anew into requirements*.txt
	@etc/setup/lock.sh

changelog: ## Show what the changelog fragments will become
	@etc/setup/test.sh setup
	@.venv/bin/towncrier build --draft

build: ## Build the source distribution and the wheel into dist/
	@etc/setup/test.sh setup
	@.venv/bin/python -m build --no-isolation

clean: ## Remove everything that was made here but the state of hosts
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f .coverage .run/*.log .run/setup.lock twisted/plugins/dropin.cache
	find flynnhost twisted tests etc benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
