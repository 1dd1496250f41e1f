# The commands of README.md. Each target is finished by a file that a rerun finds.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
Q = quickstart

.PHONY: help quickstart demo agreement report minority test test-slow lint clean-quickstart

help:
	@echo "make quickstart   phantom DICOMs to a trained, exported sampler, with pictures"
	@echo "make agreement    how well the quickstart model shows what is asked of it"
	@echo "make report       the quickstart model evaluated in all parts: report.html"
	@echo "make minority     do synthetic images help a group of 5 %?"
	@echo "make demo         a page in the browser that samples a small model"
	@echo "make test         the tests but for those of over 20 seconds"
	@echo "make test-slow    the others: kills, several processes, fresh environments"
	@echo "make lint         style, format and import contracts"

# ---- Environment ----

$(VENV)/.base: setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; make PYTHON=python3.11 ..."; exit 1; }
	@echo "== Installing ddpm_jax into $(VENV) (a minute or two)"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: setup.py | $(VENV)/.base
	@echo "== Installing what tests and lint need"
	$(RUN) -m pip install --quiet --disable-pip-version-check \
	  -e '.[dev,beam,demo,film,ocr,study]'
	@# the wheel that rapidocr asks for wants libGL, which servers lack
	$(RUN) -m pip install --quiet --disable-pip-version-check --force-reinstall \
	  --no-deps opencv-python-headless
	@touch $@

# ---- From DICOM files to synthetic radiographs ----

$(Q)/archive/labels.csv: | $(VENV)/.base
	@echo "== 1/6 Drawing phantom radiographs: DICOM files and labels.csv"
	$(RUN) -m data_prep.phantom --out $(Q)/archive --count 4000 --seed 0 --size 64 \
	  --overwrite

$(Q)/key: | $(VENV)/.base
	@mkdir -p $(Q)
	$(RUN) -m data_prep.convert --make_key $@

$(Q)/shards/manifest.json: $(Q)/archive/labels.csv $(Q)/key
	@echo "== 2/6 Converting DICOM to shards of de-identified records"
	$(RUN) -m data_prep.convert --dicom $(Q)/archive --labels $(Q)/archive/labels.csv \
	  --out $(Q)/shards --size 64 --key_file $(Q)/key --overwrite

$(Q)/.trained: $(Q)/shards/manifest.json
	@echo "== 3/6 Training a small conditional diffusion model (4 to 9 minutes)"
	$(RUN) -m ddpm_jax.train --config configs/quickstart.py --workdir $(Q)/run \
	  --config.data.folder=$(Q)/shards
	@touch $@

$(Q)/images/contact_sheet.png: $(Q)/.trained
	@echo "== 4/6 Sampling one image for each row of configs/quickstart_conditions.csv"
	$(RUN) -m ddpm_jax.sample --workdir $(Q)/run --out $(Q)/images --overwrite \
	  --conditions configs/quickstart_conditions.csv

$(Q)/sampler/checksums.json: $(Q)/.trained
	@echo "== 5/6 Exporting the sampler"
	$(RUN) -m ddpm_jax.export --workdir $(Q)/run --out $(Q)/sampler --overwrite

$(Q)/exported/contact_sheet.png: $(Q)/sampler/checksums.json
	@echo "== 6/6 Loading the exported sampler in a fresh process"
	$(RUN) -m ddpm_jax.sample --sampler $(Q)/sampler --out $(Q)/exported --overwrite \
	  --prompt "AP pelvis, both hips, right hip prosthesis, 67-year-old woman, BMI 31" \
	  --count 4

quickstart: $(Q)/images/contact_sheet.png $(Q)/exported/contact_sheet.png
	@echo "== Done. Look at"
	@echo "   $(Q)/images/contact_sheet.png     what was asked for, and what came"
	@echo "   $(Q)/exported/contact_sheet.png   the same from the exported sampler"
	@echo "   $(Q)/run/loss.png                 the loss curve"
	@echo "   $(Q)/run/samples/                 the samples while it learned"

# ---- A page that samples ----

$(VENV)/.demo: setup.py | $(VENV)/.base
	@echo "== Installing what the page needs"
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

demo: $(VENV)/.demo
	$(RUN) -m ddpm_jax.demo

# ---- Does an image show what was asked? ----

$(Q)/held_out/labels.csv: | $(VENV)/.base
	@echo "== Drawing phantoms that the model never saw"
	$(RUN) -m data_prep.phantom --out $(Q)/held_out --count 3000 --seed 1 --size 64 \
	  --overwrite

$(Q)/held_out_shards/manifest.json: $(Q)/held_out/labels.csv $(Q)/key
	$(RUN) -m data_prep.convert --dicom $(Q)/held_out --labels $(Q)/held_out/labels.csv \
	  --out $(Q)/held_out_shards --size 64 --key_file $(Q)/key --overwrite

agreement: $(Q)/.trained $(Q)/held_out_shards/manifest.json
	@echo "== A classifier trained on held-out phantoms reads 200 synthetic images"
	$(RUN) -m ddpm_jax.evaluate --real $(Q)/held_out_shards --workdir $(Q)/run \
	  --count 200 --out $(Q)/agreement --overwrite --parts agreement \
	  --fields view,side,prosthesis_right,prosthesis_left

report: $(Q)/.trained $(Q)/held_out_shards/manifest.json
	@echo "== The quickstart model, held against phantoms that it never saw"
	$(RUN) -m ddpm_jax.evaluate --real $(Q)/held_out_shards --training $(Q)/shards \
	  --workdir $(Q)/run --out $(Q)/report

# ---- Do synthetic images help a group of 5 %? ----

M = $(Q)/minority

$(M)/archive/labels.csv: | $(VENV)/.base
	@echo "== Drawing phantoms of whose hips 5 % have a prosthesis"
	$(RUN) -m data_prep.phantom --out $(M)/archive --count 8000 --seed 2 --size 64 \
	  --prosthesis 0.05 --overwrite

$(M)/shards/manifest.json: $(M)/archive/labels.csv $(Q)/key
	$(RUN) -m data_prep.convert --dicom $(M)/archive --labels $(M)/archive/labels.csv \
	  --out $(M)/shards --size 64 --key_file $(Q)/key --overwrite \
	  --splits train=0.1,validation=0.02,test=0.88

minority: $(M)/shards/manifest.json
	$(RUN) -m ddpm_jax.train --config configs/quickstart.py --workdir $(M)/run \
	  --config.data.folder=$(M)/shards
	$(RUN) -m ddpm_jax.evaluate --real $(M)/shards --workdir $(M)/run \
	  --out $(M)/report --parts agreement,usefulness --count 2000 \
	  --fields prosthesis_right,prosthesis_left \
	  --balance prosthesis_right,prosthesis_left

clean-quickstart:
	rm -rf $(Q)

# ---- Tests ----

test: $(VENV)/.dev
	$(RUN) -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/.dev
	$(RUN) -m pytest -n 2 --dist loadfile -m slow

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
