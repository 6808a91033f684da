# Freehold: the commands of a checkout. `make help` lists them.
PYTHON ?= python3
ROLE   ?=
OS     ?=
VENV   := .venv
BIN    := $(VENV)/bin
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Bytecode is kept: without it every start of Ansible and pytest compiles its modules anew.
unexport PYTHONDONTWRITEBYTECODE

# What `apt-get` installs, and why: real containers (lxc, uidmap), their templates (mmdebstrap, zstd),
# their network (iproute2, nftables), SSH to them, and a browser for the test of the chat.
APT_LAB  := lxc uidmap mmdebstrap zstd iproute2 nftables openssl openssh-client ca-certificates python3-venv
APT_TEST := chromium libnss3-tools
# The port audit scans with it.
APT_SLOW := nmap

.DEFAULT_GOAL := help
.PHONY: help up down test lint unit contract lab-test slow-test molecule molecule-changed apt-lab apt-test apt-slow lock clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

up: apt-lab $(BIN)/freehold ## Start the lab and bring up its whole stack in it; the quick way in: make up ONLY=openwebui,vllm
	$(SUDO) $(BIN)/freehold lab start
	$(SUDO) $(BIN)/freehold prepare lab
	$(SUDO) cat /var/lib/freehold-lab/cloud-standin-api-key | $(SUDO) $(BIN)/freehold secrets set lab litellm.cloud_standin
	$(SUDO) $(BIN)/freehold up lab $(if $(ONLY),--only $(ONLY))

down: ## Remove the lab's stack and stop the lab
	$(SUDO) $(BIN)/freehold down lab --confirm lab
	$(SUDO) $(BIN)/freehold lab stop

test: lint ## Everything that CI runs
	$(MAKE) --jobs=2 --output-sync=target unit contract molecule-changed
	$(MAKE) lab-test

lint: $(BIN)/freehold ## Style, types and roles
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/ansible-lint --offline

unit: $(BIN)/freehold ## Logic alone: no network, no root
	$(BIN)/pytest tests/unit

contract: $(BIN)/freehold ## Requests and the lab against the real API's schema and recorded answers
	$(BIN)/pytest tests/contract

lab-test: apt-lab apt-test $(BIN)/freehold ## The main job on real containers (root)
	$(SUDO) $(BIN)/freehold lab start
	$(SUDO) env PATH="$(PATH)" $(BIN)/pytest tests/lab -m "not slow" --durations=10

slow-test: apt-lab apt-slow $(BIN)/freehold ## Lab tests too long for make test: kills, changes, offline, GPUs, driver, language models, routing, audit, ports (root)
	$(SUDO) $(BIN)/freehold lab start
	$(SUDO) env PATH="$(PATH)" $(BIN)/pytest tests/lab -m slow

molecule: apt-lab $(BIN)/freehold ## Test each role alone; one: make molecule ROLE=caddy OS=debian-13
	$(SUDO) $(BIN)/freehold lab start
	$(SUDO) env PATH="$(PATH)" python molecule/run.py $(ROLE) $(if $(OS),--os $(OS))

molecule-changed: apt-lab $(BIN)/freehold ## Test the roles that differ from those that passed last, and caddy always
	$(SUDO) $(BIN)/freehold lab start
	$(SUDO) env PATH="$(PATH)" python molecule/run.py --changed

apt-lab:
	@dpkg -s $(APT_LAB) >/dev/null 2>&1 || { echo "Installing Debian packages: $(APT_LAB)"; \
	  $(SUDO) apt-get update -q && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -q --no-install-recommends $(APT_LAB); }

apt-test:
	@dpkg -s $(APT_TEST) >/dev/null 2>&1 || { echo "Installing Debian packages: $(APT_TEST)"; \
	  $(SUDO) apt-get update -q && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -q --no-install-recommends $(APT_TEST); }

apt-slow:
	@dpkg -s $(APT_SLOW) >/dev/null 2>&1 || { echo "Installing Debian packages: $(APT_SLOW)"; \
	  $(SUDO) apt-get update -q && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -q --no-install-recommends $(APT_SLOW); }

$(BIN)/freehold: requirements.lock pyproject.toml
	@echo "Installing Freehold and its tools into $(VENV)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --require-hashes -r requirements-uv.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

lock: ## Resolve the dependencies anew and write the lock files
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra lab --group dev pyproject.toml -o requirements.lock
	echo uv | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o requirements-uv.lock

clean: ## Remove the virtual environment and caches of this checkout
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist
