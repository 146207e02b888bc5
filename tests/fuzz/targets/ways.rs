//! The same row gives the same id and the same document whether it came in the stream or by COPY (guarantee G7).

use super::{
    copy_text,
    document::{TYPES, choose},
    input::Input,
    pgoutput,
};
use pg2os::{
    decode::{CopyDecoder, Decoder, Message},
    map::{IdBuffers, TablePlan, TableSpec},
    model::{ColumnType, Row},
};

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let count = 1 + input.below(5);
    let types: Vec<&ColumnType> = TYPES.iter().collect();
    let columns: Vec<_> = (0..count).map(|i| (format!("c{i}"), choose(&types, &mut input).clone())).collect();
    let spec = TableSpec { id: vec!["c0".to_owned()], ..TableSpec::default() };
    let plan = TablePlan::new(&spec, 1, &columns).unwrap();
    let (mut stream, mut copy) = (Decoder::default(), CopyDecoder::default());
    for _ in 0..2 {
        let cells: Vec<_> = (0..count).map(|_| input.cell()).collect();
        let (message, line) = (pgoutput::insert(&cells), copy_text::print(&cells));
        let Ok(Message::Insert { new: streamed, .. }) = stream.decode(&message) else {
            panic!("no Insert: {message:02x?}")
        };
        let copied = copy.decode(&line, count).unwrap();
        assert_eq!(copy_text::cells(&streamed), cells);
        assert_eq!(copy_text::cells(&copied), cells);
        assert_eq!(written(&plan, &streamed), written(&plan, &copied));
    }
}

fn written(plan: &TablePlan, row: &Row<'_>) -> (Vec<u8>, Vec<u8>, Result<u32, String>) {
    let (mut ids, mut document) = (IdBuffers::default(), vec![]);
    plan.write_id(row, &mut ids).unwrap();
    let outcome = plan.write_fitting_document(row, 1 << 20, &mut document);
    (ids.id, document, outcome)
}
