/* SPDX-License-Identifier: Apache-2.0 */
/* index.c - index rows that lead to ids; see <imprimatur/index.h>. */
#include <imprimatur/index.h>

#include <string.h>

imp_status imp_index_get(imp_tx *tx, imp_table *index, imp_bytes key, imp_id *id)
{
    imp_bytes value;
    imp_status status = imp_tx_get(tx, index, key, &value);
    if (status != IMP_OK)
        return status;
    if (value.length != sizeof id->bytes)
        return IMP_CORRUPT;
    memcpy(id->bytes, value.data, sizeof id->bytes);
    return IMP_OK;
}

imp_status imp_index_add(imp_tx *tx, imp_table *index, imp_bytes key, const imp_id *id)
{
    imp_id owner;
    imp_status status = imp_tx_insert(tx, index, key, (imp_bytes){id->bytes, sizeof id->bytes});
    if (status != IMP_EXISTS)
        return status;
    status = imp_index_get(tx, index, key, &owner);
    if (status == IMP_OK && !imp_id_equal(owner, *id))
        status = IMP_EXISTS;
    return status;
}

imp_status imp_index_remove(imp_tx *tx, imp_table *index, imp_bytes key, const imp_id *id)
{
    imp_id owner;
    imp_status status = imp_index_get(tx, index, key, &owner);
    if (status == IMP_OK && imp_id_equal(owner, *id))
        status = imp_tx_delete(tx, index, key);
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

imp_status imp_index_find(imp_tx *tx, imp_table *records, const char *text, imp_table *index,
                          imp_bytes key, imp_id *id)
{
    imp_bytes value;
    if (imp_id_parse(text, id) == IMP_OK) {
        imp_status status =
            imp_tx_get(tx, records, (imp_bytes){id->bytes, sizeof id->bytes}, &value);
        if (status != IMP_NOT_FOUND)
            return status;
    }
    return key.data == NULL ? IMP_NOT_FOUND : imp_index_get(tx, index, key, id);
}
