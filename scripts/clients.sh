#!/bin/sh
# Prints the generated parts of the clients from docs/openapi.json: the types of the API for TypeScript and Python, and the
# declarations of the TypeScript client. With a folder as argument, prints below that folder instead of below clients/.
#
#   scripts/clients.sh [FOLDER]
#
# The programs that print them are installed by scripts/setup.sh --test.
set -eu

cd "$(dirname "$0")/.."
into=${1:-clients} tools=$PWD/target/tools/clients
typescript=$into/typescript python=$into/python/src/voicegate/generated
mkdir -p "$typescript/generated" "$typescript/types" "$python"

node "$tools/node_modules/openapi-typescript/bin/cli.js" docs/openapi.json --output "$typescript/generated/api.d.ts" \
    --root-types --root-types-no-schema-prefix --default-non-nullable=false --empty-objects-unknown >/dev/null

rm -f "$typescript"/types/*.d.ts
node "$tools/node_modules/typescript/bin/tsc" --project clients/typescript --typeRoots "$tools/node_modules/@types" \
    --outDir "$typescript/types"

# Without warnings about defaults of the generator that a later version will change.
"$tools/venv/bin/python" -W ignore -m datamodel_code_generator --input docs/openapi.json --input-file-type openapi \
    --openapi-scopes schemas --output-model-type typing.TypedDict --target-python-version 3.11 \
    --enum-field-as-literal all --no-use-closed-typed-dict --use-union-operator --use-standard-collections \
    --use-schema-description --use-field-description --disable-timestamp --formatters builtin \
    --custom-file-header '# Printed from docs/openapi.json by scripts/clients.sh.' --output "$python/models.py"
# Python 3.11 has TypedDict in its own library.
sed 's/^from typing_extensions import/from typing import/' "$python/models.py" >"$python/models.py.new"
mv "$python/models.py.new" "$python/models.py"
