/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arguments.h"
#include "paths.h"
#include "served.h"

static _Noreturn void refuse(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(4);
}

void load_file(struct served *served, const char *record, const char *data)
{
    static struct object objects[FIM_DEPTH_MAX + 1];
    static fim_record decoded;
    static fim_statement statement;
    const fim_file *file = &statement.claim.fim_claim_u.file;
    const fim_tree *shape = &file->content.tree;
    struct bytes given = read_file(record), encoded, rest, name;
    struct object *object = objects;
    const struct hash *hash;
    int fd;

    if (!decode_canonical((xdrproc_t)xdr_fim_record, &given, &decoded, sizeof decoded))
        refuse("no record");
    encoded = (struct bytes){decoded.statement.statement_val, decoded.statement.statement_len};
    if (!decode_canonical((xdrproc_t)xdr_fim_statement, &encoded, &statement, sizeof statement) ||
        statement.claim.kind != FIM_FILE || !is_path(file->path.fim_path_val, file->path.fim_path_len) ||
        shape->unit_log2 < FIM_UNIT_LOG2_MIN || shape->unit_log2 > FIM_UNIT_LOG2_MAX ||
        shape->type != FIM_TREE_RFC9162 || (hash = hash_of(statement.hash)) == NULL || hash->name == NULL)
        refuse("no statement that can be served");

    *object = make_object((struct bytes){file->path.fim_path_val, 0}, false);
    rest = (struct bytes){file->path.fim_path_val, file->path.fim_path_len};
    while (next_name(&rest, &name))
        *++object = make_object((struct bytes){file->path.fim_path_val, name.data + name.size - file->path.fim_path_val},
                                false);
    object->is_file = true;
    object->record = given;
    object->statement = encoded;
    digest(hash, encoded.data, encoded.size, object->tag);
    make_tree(&object->nodes.tree, hash, shape->unit_log2, shape->size);
    fd = open(data, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        perror(data);
        exit(4);
    }
    object->has_nodes = hash_content(&object->nodes, fd);
    close(fd);
    *served = (struct served){objects, object - objects + 1, NULL, hash, -1, data};
}
