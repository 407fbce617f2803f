# Stillpoint's one Makefile. `make help` lists the targets.
#
# VARIANT chooses the instrumentation and the folder under build/:
#   release (default) · asan (ASan+UBSan) · tsan · fuzz (clang's, for tests/fuzz/run)
#   unfenced (token checks taken out when linking, for tests/integration/fencing.sh)
# CC chooses the compiler; both gcc and clang must build without a warning.

comma   := ,
VARIANT ?= release
CC      := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
B       := build/$(VARIANT)-$(notdir $(CC))
GEN     := build/gen
PREFIX  ?= /usr/local
DESTDIR ?=

CFLAGS_asan    := -DSTILLPOINT_FAILPOINTS -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan    := -O1 -fsanitize=thread -fno-omit-frame-pointer
CFLAGS_fuzz    := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
CFLAGS_unfenced := -DSTILLPOINT_FAILPOINTS -O1
CFLAGS_release := -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong
CFLAGS  := -std=gnu11 -g -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
           -Wvla -Wpointer-arith -Wwrite-strings -fno-common -fPIE $(CFLAGS_$(VARIANT))
CPPFLAGS := -D_GNU_SOURCE -I. -isystem $(GEN) -MMD -MP
LDFLAGS := -pie -Wl,--as-needed -Wl,-z,relro,-z,now $(filter -fsanitize%,$(CFLAGS_$(VARIANT)))
WRAP_O  := $(if $(filter unfenced,$(VARIANT)),$(B)/tests/tools/wrap/unfenced.o)
LDFLAGS += $(if $(WRAP_O),-Wl$(comma)--wrap=token_compare$(comma)--wrap=etcd_if)
LDLIBS  := -lgrpc -lgpr -lprotobuf-c -lcurl -lyaml -lssl -lcrypto -lzstd -ljansson -lyajl \
           -lsystemd -lfuse3 -lpthread -lm
TEST_LIBS := -lcheck -lsubunit -lrt -lm

PROTOS    := $(wildcard proto/stillpoint/v1/*.proto proto/grpc/*.proto)
GEN_C     := $(PROTOS:proto/%.proto=$(GEN)/%.pb-c.c)
GEN_H     := $(GEN_C:.c=.h)
DESCRIPTORS := $(GEN)/descriptors

COMMON_C  := $(wildcard common/*/*.c)
COORD_C   := $(filter-out coordinator/shell/main.c,\
               $(wildcard coordinator/flow/*.c coordinator/admin/*.c coordinator/shell/*.c))
CTL_C     := $(wildcard coordinator/ctl/*.c)
AGENT_C   := $(filter-out agent/shell/main.c agent/guardian/main.c,\
               $(wildcard agent/flow/*.c agent/guardian/*.c agent/work/*.c agent/shell/*.c))
SIM_C     := $(wildcard tests/sim/*.c)
UNIT_C    := $(wildcard tests/unit/*/*_test.c tests/unit/*/*/*_test.c)
TOOL_C    := $(wildcard tests/tools/*.c)
PRELOAD_C := $(wildcard tests/tools/preload/*.c)

obj = $(patsubst %.c,$(B)/%.o,$(1))
GEN_O  := $(GEN_C:$(GEN)/%.c=$(B)/gen/%.o) $(B)/gen/descriptors.o

LIB_COMMON := $(B)/libcommon.a
LIB_COORD  := $(B)/libcoordinator.a
LIB_AGENT  := $(B)/libagent.a

PROGRAMS := $(if $(wildcard coordinator/shell/main.c),$(B)/stillpoint-coordinator) \
            $(if $(wildcard coordinator/ctl/main.c),$(B)/stillpoint) \
            $(if $(wildcard agent/shell/main.c),$(B)/stillpoint-agent) \
            $(if $(wildcard agent/guardian/main.c),$(B)/stillpoint-guardian)
UNITS := $(UNIT_C:%.c=$(B)/%)
TOOLS := $(TOOL_C:%.c=$(B)/%)
PRELOADS := $(PRELOAD_C:%.c=build/%.so)
SIM   := $(if $(SIM_C),$(B)/tests/sim/sim)
CORPUS := $(B)/tests/fuzz/corpus_test

.PHONY: all check check-threaded model fuzz sweep postgres bench bench-cut lint format install clean help units sim mutants tools asan tsan
.DEFAULT_GOAL := all
.SECONDARY:

all: $(PROGRAMS) $(TOOLS) $(PRELOADS) ## build every program
units: $(UNITS) $(CORPUS)   ## build the unit tests
tools: $(TOOLS)             ## build the programs that tests use
sim: $(SIM)                 ## build the simulator; SEEDS=n: run so many; SEED=n: replay one
	@$(if $(SEED),$(SIM) $(SEED),$(if $(SEEDS),tests/sim/run $(SIM) $(SEEDS)))
mutants: $(SIM)             ## break one rule of the cores at a time: the swarm finds each
	@tests/sim/mutants

# protobuf-c puts generated code under build/gen; the descriptor set serves gRPC reflection.
$(GEN)/%.pb-c.c $(GEN)/%.pb-c.h: proto/%.proto $(PROTOS)
	@mkdir -p $(GEN)
	protoc-c -Iproto --c_out=$(GEN) $<

$(DESCRIPTORS).pb: $(PROTOS)
	@mkdir -p $(GEN)
	protoc -Iproto --include_imports --descriptor_set_out=$@ $(PROTOS)

$(DESCRIPTORS).c: $(DESCRIPTORS).pb
	@{ echo '#include <stddef.h>'; \
	   echo 'extern const unsigned char stillpoint_descriptors[];'; \
	   echo 'extern const size_t stillpoint_descriptors_bytes;'; \
	   echo 'const unsigned char stillpoint_descriptors[] = {'; \
	   od -An -v -tu1 $< | sed 's/ *\([0-9][0-9]*\)/\1,/g'; echo '};'; \
	   echo 'const size_t stillpoint_descriptors_bytes = sizeof stillpoint_descriptors;'; } > $@

$(B)/gen/%.o: $(GEN)/%.c $(GEN_H)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/%.o: %.c $(GEN_H)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(LIB_COMMON): $(call obj,$(COMMON_C)) $(GEN_O)
$(LIB_COORD): $(call obj,$(COORD_C))
$(LIB_AGENT): $(call obj,$(AGENT_C))
%.a:
	@mkdir -p $(@D)
	@rm -f $@
	ar rcs $@ $^

$(B)/stillpoint-coordinator: $(B)/coordinator/shell/main.o $(LIB_COORD) $(LIB_COMMON)
$(B)/stillpoint: $(call obj,$(CTL_C)) $(LIB_COMMON)
$(B)/stillpoint-agent: $(B)/agent/shell/main.o $(LIB_AGENT) $(LIB_COMMON)
$(B)/stillpoint-guardian: $(B)/agent/guardian/main.o $(LIB_AGENT) $(LIB_COMMON)
$(PROGRAMS): $(WRAP_O)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(UNITS): $(B)/%: $(B)/%.o $(LIB_COORD) $(LIB_AGENT) $(LIB_COMMON)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(TEST_LIBS)

$(B)/tests/sim/sim: $(call obj,$(SIM_C)) $(LIB_COORD) $(LIB_AGENT) $(LIB_COMMON)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(TEST_LIBS)

$(CORPUS): $(CORPUS).o $(B)/tests/fuzz/targets.o $(LIB_COMMON)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(TEST_LIBS)

$(B)/tests/fuzz/fuzz: $(B)/tests/fuzz/fuzz.o $(B)/tests/fuzz/targets.o $(LIB_COMMON)
	$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)

$(TOOLS): $(B)/%: $(B)/%.o $(LIB_AGENT) $(LIB_COMMON)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lsqlite3 -lpq

# Goes under whatever program: never instrumented.
$(PRELOADS): build/%.so: %.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -std=gnu11 -g -O1 -Wall -Wextra -Werror -fno-builtin -fPIC -shared -o $@ $< -ldl

check: units sim            ## run unit tests and the scripted simulations
	deploy/run-units $(UNITS) $(CORPUS) $(SIM)

# What has threads: the rest is pure, or one loop. What only kills whole processes is long and shows
# no more of them.
THREADED := $(filter-out %kill_test,\
               $(filter $(foreach d,rpc etcd loop engine repo,$(B)/tests/unit/$(d)/%),$(UNITS)))
check-threaded: $(THREADED) ## run the unit tests of everything that has threads
	deploy/run-units $(THREADED)

asan:                       ## unit tests and simulations under ASan and UBSan
	$(MAKE) VARIANT=asan check
tsan:                       ## threaded unit tests under TSan
	TSAN_OPTIONS="suppressions=$(CURDIR)/tests/lint/tsan.supp ignore_noninstrumented_modules=1" \
	    $(MAKE) VARIANT=tsan check-threaded

model:                      ## model-check the protocol with spin (minutes)
	tests/model/run

FUZZ_SECONDS ?= 1800
fuzz:                       ## fuzz every parser, FUZZ_SECONDS (1800) each
	tests/fuzz/run $(FUZZ_SECONDS)

sweep:                      ## each daemon dies at each change of state, 5 times; sleeping leaders; cut links (root, hours)
	$(MAKE) VARIANT=asan all
	tests/integration/sweep.sh
	tests/integration/chaos.sh
	tests/integration/partition.sh
	tests/integration/fencing.sh
	UNFENCED=1 tests/integration/fencing.sh

postgres: all               ## 200 sets of four PostgreSQL shards, each restored, started, added up (root, long)
	tests/integration/postgres.sh

bench: all                  ## us, restic and borg on the same data (BENCH_SIZE=full: an hour)
	tests/bench/run

bench-cut: all              ## how long writers stand still for 3 to 200 agents, rates, etcd, memory (root, an hour)
	tests/bench/cut

lint:                       ## include graph, sizes, banned calls, shellcheck, clang-format, cppcheck
	tests/lint/run

format:                     ## rewrite all C files as .clang-format says
	clang-format -i $$(git ls-files '*.c' '*.h')

# Units name /usr/bin; other prefixes are written into them here.
BINDIR   := $(DESTDIR)$(PREFIX)/bin
LIBDIR   := $(DESTDIR)$(PREFIX)/lib
DOCDIR   := $(DESTDIR)$(PREFIX)/share/doc/stillpoint
install: $(PROGRAMS)        ## programs, units, users, example files (DESTDIR, PREFIX)
	install -d $(BINDIR) $(LIBDIR)/systemd/system $(LIBDIR)/sysusers.d \
	    $(LIBDIR)/tmpfiles.d $(DOCDIR)/examples
	install -m 0755 $(PROGRAMS) $(BINDIR)
	install -m 0755 deploy/certs $(BINDIR)/stillpoint-certs
	for unit in deploy/systemd/*.service; do \
	    sed 's,=/usr/bin/,=$(PREFIX)/bin/,' $$unit \
	        >$(LIBDIR)/systemd/system/$${unit##*/} || exit 1; done
	install -m 0644 deploy/systemd/stillpoint.sysusers $(LIBDIR)/sysusers.d/stillpoint.conf
	install -m 0644 deploy/systemd/stillpoint.tmpfiles $(LIBDIR)/tmpfiles.d/stillpoint.conf
	install -m 0644 deploy/examples/*.yaml deploy/examples/*.md $(DOCDIR)/examples
	install -m 0644 proto/*.md $(DOCDIR)

clean:                      ## remove everything built
	rm -rf build

help:                       ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

-include $(shell find build -name '*.d' 2>/dev/null)
